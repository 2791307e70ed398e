# Faster R-CNN, ResNet-50 frozen and pro-tuned, FPN, COCO, 1x
_base_ = ['mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', '../_base_/protune.py']

model = dict(backbone=_base_.protune_backbone)
optim_wrapper = _base_.protune_optim_wrapper
default_hooks = _base_.protune_hooks
