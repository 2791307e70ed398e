# Full fine-tuning; batch norms follow the host's norm_eval
# docs/tunings.md; a config takes it by
#   model = dict(backbone=dict(tuning=_base_.tuning))
tuning = dict(type='full')
