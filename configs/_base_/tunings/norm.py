# Norm tuning: the affine parameters of every norm
# docs/tunings.md; a config takes it by
#   model = dict(backbone=dict(tuning=_base_.tuning))
tuning = dict(type='norm')
