# DoRA: low-rank updates of linear layers and convolutions, with a magnitude per output channel
# See docs/tunings.md. Inherit this file and write:
#   model = dict(backbone=dict(tuning=_base_.tuning))
tuning = dict(_delete_=True, type='dora', rank=4, alpha=4)
