# LoRA: low-rank updates of linear layers and convolutions
# See docs/tunings.md. Inherit this file and write:
#   model = dict(backbone=dict(tuning=_base_.tuning))
tuning = dict(_delete_=True, type='lora', rank=4, alpha=4)
