# Conv-Adapter: a bottleneck in parallel to the spatial convolution of every residual block
# See docs/tunings.md. Inherit this file and write:
#   model = dict(backbone=dict(tuning=_base_.tuning))
tuning = dict(_delete_=True, type='conv_adapter', reduction=4)
