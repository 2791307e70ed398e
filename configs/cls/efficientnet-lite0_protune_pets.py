# EfficientNet-Lite0 frozen and pro-tuned, Oxford-IIIT Pets; for your own images, add data='folder' (docs/data.md)
_base_ = ['../_base_/cls_datasets/pets.py', '../_base_/backbones/efficientnet_lite0.py', '../_base_/cls.py']

model = dict(
    data_preprocessor=_base_.lite_preprocessor,
    backbone=dict(backbone=_base_.cls_backbone, tuning=_base_.lite_tuning),
    neck=_base_.cls_neck,
    head=dict(in_channels=_base_.cls_channels, num_classes=_base_.num_classes),
)
