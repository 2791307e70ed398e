# Mona: two adapters with depth-wise convolutions in every transformer layer
# See docs/tunings.md. Inherit this file and write:
#   model = dict(backbone=dict(tuning=_base_.tuning))
tuning = dict(_delete_=True, type='mona', hidden=64)
