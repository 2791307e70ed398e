# Ladder: prompt blocks beside the frozen network, which keeps nothing for the backward pass
# See docs/tunings.md. Inherit this file and write:
#   model = dict(backbone=dict(tuning=_base_.tuning))
tuning = dict(_delete_=True, type='ladder', ratio=0.32)
