# Linear probing: neck and head alone
# docs/tunings.md; a config takes it by
#   model = dict(backbone=dict(tuning=_base_.tuning))
tuning = dict(type='linear')
