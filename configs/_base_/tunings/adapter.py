# Adapters in every transformer layer: after the MLP (variant 1), after the attention too (variant 2)
# docs/tunings.md; a config takes it by
#   model = dict(backbone=dict(tuning=_base_.tuning))
tuning = dict(type='adapter', variant=1, reduction=8)
