# ResNet-101 frozen and pro-tuned, long-tailed CIFAR-100, imbalance ratio 100
_base_ = ['../_base_/cls_datasets/cifar100_lt.py', '../_base_/backbones/resnet101.py', '../_base_/cls.py']

model = dict(
    backbone=dict(backbone=_base_.cls_backbone),
    neck=_base_.cls_neck,
    head=dict(in_channels=_base_.cls_channels, num_classes=_base_.num_classes),
)
