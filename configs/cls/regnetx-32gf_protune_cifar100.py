# RegNetX-32GF frozen and pro-tuned, CIFAR-100
_base_ = ['../_base_/cls_datasets/cifar100.py', '../_base_/backbones/regnetx_32gf.py', '../_base_/cls.py']

model = dict(
    backbone=dict(backbone=_base_.cls_backbone),
    neck=_base_.cls_neck,
    head=dict(in_channels=_base_.cls_channels, num_classes=_base_.num_classes),
)
