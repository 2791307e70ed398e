# (IA)3: learned factors of keys, values and hidden features; for transformers
# See docs/tunings.md. Inherit this file and write:
#   model = dict(backbone=dict(tuning=_base_.tuning))
tuning = dict(_delete_=True, type='ia3')
