# Rein: learned tokens that refine the output of every layer of a plain vision transformer
# See docs/tunings.md. Inherit this file and write:
#   model = dict(backbone=dict(tuning=_base_.tuning))
tuning = dict(_delete_=True, type='rein', number=100, rank=16)
