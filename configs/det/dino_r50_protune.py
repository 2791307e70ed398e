# DINO with four scales, ResNet-50 frozen and pro-tuned, COCO, 12 epochs
_base_ = ['mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py', '../_base_/protune.py']

model = dict(backbone=_base_.protune_backbone)
optim_wrapper = _base_.protune_optim_wrapper
default_hooks = _base_.protune_hooks
