# Side-Tuning: a light network beside the frozen one
# docs/tunings.md; a config takes it by
#   model = dict(backbone=dict(tuning=_base_.tuning))
tuning = dict(type='side', width=32)
