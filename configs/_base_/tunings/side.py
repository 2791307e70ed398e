# Side-Tuning: a small network in parallel to the frozen one
# See docs/tunings.md. Inherit this file and write:
#   model = dict(backbone=dict(tuning=_base_.tuning))
tuning = dict(_delete_=True, type='side', width=32)
