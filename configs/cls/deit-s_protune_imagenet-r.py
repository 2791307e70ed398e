# DeiT-S frozen and pro-tuned, trained on ImageNet, tested on ImageNet-R
_base_ = ['../_base_/cls_datasets/imagenet_r.py', '../_base_/backbones/deit_small.py', '../_base_/cls.py']

model = dict(
    backbone=dict(backbone=_base_.cls_backbone),
    neck=_base_.cls_neck,
    head=dict(in_channels=_base_.cls_channels, num_classes=_base_.num_classes),
)
