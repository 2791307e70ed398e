# Full fine-tuning; batch norms follow the backbone's norm_eval
# See docs/tunings.md. Inherit this file and write:
#   model = dict(backbone=dict(tuning=_base_.tuning))
tuning = dict(_delete_=True, type='full')
