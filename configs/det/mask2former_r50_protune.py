# Mask2Former for instances, ResNet-50 frozen and pro-tuned, COCO, 50 epochs
_base_ = ['mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py', '../_base_/protune.py']

model = dict(backbone=_base_.protune_backbone)
optim_wrapper = _base_.protune_optim_wrapper
default_hooks = _base_.protune_hooks
