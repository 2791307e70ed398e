# SegFormer, MiT-B2 frozen and pro-tuned, ADE20K, 512x512, 160k
_base_ = ['mmseg::segformer/segformer_mit-b2_8xb2-160k_ade20k-512x512.py', '../_base_/protune.py']

model = dict(backbone=dict(_delete_=True, backbone=_base_.model.backbone, **_base_.protune_any_backbone))
optim_wrapper = _base_.protune_optim_wrapper
default_hooks = _base_.protune_hooks
