# ViT-B of MoCo v3 frozen and pro-tuned, Oxford-IIIT Pets
_base_ = ['../_base_/cls_datasets/pets.py', '../_base_/backbones/vit_base_moco_v3.py', '../_base_/cls.py']

model = dict(
    backbone=dict(backbone=_base_.cls_backbone),
    neck=_base_.cls_neck,
    head=dict(in_channels=_base_.cls_channels, num_classes=_base_.num_classes),
)
