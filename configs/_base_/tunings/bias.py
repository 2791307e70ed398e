# Bias tuning: every bias of the pre-trained network
# docs/tunings.md; a config takes it by
#   model = dict(backbone=dict(tuning=_base_.tuning))
tuning = dict(type='bias')
