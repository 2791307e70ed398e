# Pro-Tuning: a prompt block after every stage
# docs/tunings.md; a config takes it by
#   model = dict(backbone=dict(tuning=_base_.tuning))
tuning = dict(type='pro', ratio=0.32, kernel_size=5)
