# The demo's HTC on EfficientNet-Lite0 with ImageNet's weights, frozen and pro-tuned (docs/demo.md)
_base_ = ['./htc_r50_protune_demo.py', '../_base_/backbones/efficientnet_lite0.py']

model = dict(
    data_preprocessor=_base_.lite_preprocessor,
    backbone=dict(
        _delete_=True, type='protuning_mm.TunedBackbone', tuning=_base_.lite_tuning, backbone=_base_.det_backbone
    ),
    neck=dict(in_channels=_base_.dense_channels),
)
