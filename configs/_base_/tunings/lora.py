# LoRA: low-rank updates of linear layers and convolutions
# docs/tunings.md; a config takes it by
#   model = dict(backbone=dict(tuning=_base_.tuning))
tuning = dict(type='lora', rank=4, alpha=4)
