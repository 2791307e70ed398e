# AdaptFormer: a bottleneck beside every transformer layer's MLP
# docs/tunings.md; a config takes it by
#   model = dict(backbone=dict(tuning=_base_.tuning))
tuning = dict(type='adaptformer', hidden=64, scale=0.1)
