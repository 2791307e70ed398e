# Faster R-CNN, EfficientNet-Lite0 frozen and pro-tuned, FPN, BCCD
_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',
    'mmdet::_base_/default_runtime.py',
    '../_base_/det_datasets/bccd.py',
    '../_base_/backbones/efficientnet_lite0.py',
    '../_base_/protune.py',
]

model = dict(
    data_preprocessor=_base_.lite_preprocessor,
    backbone=dict(
        _delete_=True, type='protuning_mm.TunedBackbone', tuning=_base_.lite_tuning, backbone=_base_.det_backbone
    ),
    neck=dict(in_channels=_base_.dense_channels, norm_cfg=_base_.lite_neck_norm),
    roi_head=dict(bbox_head=dict(num_classes=_base_.num_classes)),
)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=24, val_interval=4)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-4, weight_decay=0.01),
    **_base_.protune_optim_wrapper,
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=0, end=24, convert_to_iter_based=True),
]
default_hooks = _base_.protune_hooks
auto_scale_lr = dict(enable=False, base_batch_size=4)
