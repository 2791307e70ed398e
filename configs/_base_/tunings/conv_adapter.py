# Conv-Adapter: a bottleneck beside every residual block's spatial convolution
# docs/tunings.md; a config takes it by
#   model = dict(backbone=dict(tuning=_base_.tuning))
tuning = dict(type='conv_adapter', reduction=4)
