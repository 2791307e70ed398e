# Swin-B frozen and pro-tuned, long-tailed CIFAR-10, imbalance ratio 50
_base_ = ['../_base_/cls_datasets/cifar10_lt.py', '../_base_/backbones/swin_base.py', '../_base_/cls.py']

model = dict(
    backbone=dict(backbone=_base_.cls_backbone),
    neck=_base_.cls_neck,
    head=dict(in_channels=_base_.cls_channels, num_classes=_base_.num_classes),
)
train_dataloader = dict(dataset=dict(imbalance_ratio=50))
