# Pro-Tuning: a prompt block after every stage
# See docs/tunings.md. Inherit this file and write:
#   model = dict(backbone=dict(tuning=_base_.tuning))
tuning = dict(_delete_=True, type='pro', ratio=0.32, kernel_size=5)
