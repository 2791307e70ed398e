# The demo (docs/demo.md): HTC with its semantic head, EfficientNet-Lite0 with ImageNet weights frozen and pro-tuned, on
# handwritten digits. Neck and heads are small enough for a CPU core.
_base_ = ['./htc_r50_protune_demo.py', '../_base_/backbones/efficientnet_lite0.py']

model = dict(
    data_preprocessor=_base_.lite_preprocessor,
    backbone=dict(
        _delete_=True, type='protuning_mm.TunedBackbone', tuning=_base_.lite_tuning, backbone=_base_.det_backbone
    ),
    neck=dict(in_channels=_base_.dense_channels, norm_cfg=_base_.lite_neck_norm),
)
train_cfg = dict(max_epochs=4)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=0, T_max=4, convert_to_iter_based=True),
]
custom_imports = dict(imports=['protuning_mm', 'protuning_lab.channels_last'], allow_failed_imports=False)
custom_hooks = [dict(type='ChannelsLastHook')]  # twice as fast on a CPU
