# Visual Prompt Tuning of plain vision transformers; deep=True gives every layer tokens of its own
# docs/tunings.md; a config takes it by
#   model = dict(backbone=dict(tuning=_base_.tuning))
tuning = dict(type='vpt', number=10, deep=False)
