# Bias tuning: trains every bias of the pre-trained network
# See docs/tunings.md. Inherit this file and write:
#   model = dict(backbone=dict(tuning=_base_.tuning))
tuning = dict(_delete_=True, type='bias')
