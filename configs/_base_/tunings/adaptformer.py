# AdaptFormer: a bottleneck in parallel to the MLP of every transformer layer
# See docs/tunings.md. Inherit this file and write:
#   model = dict(backbone=dict(tuning=_base_.tuning))
tuning = dict(_delete_=True, type='adaptformer', hidden=64, scale=0.1)
