# Visual Prompt Tuning of plain vision transformers; with deep=True, every layer has its own tokens
# See docs/tunings.md. Inherit this file and write:
#   model = dict(backbone=dict(tuning=_base_.tuning))
tuning = dict(_delete_=True, type='vpt', number=10, deep=False)
