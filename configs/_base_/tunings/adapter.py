# Adapters in every transformer layer: after the MLP (variant 1), or after attention and MLP (variant 2)
# See docs/tunings.md. Inherit this file and write:
#   model = dict(backbone=dict(tuning=_base_.tuning))
tuning = dict(_delete_=True, type='adapter', variant=1, reduction=8)
