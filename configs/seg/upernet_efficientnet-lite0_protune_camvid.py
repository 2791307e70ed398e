# UPerNet, EfficientNet-Lite0 frozen and pro-tuned, CamVid
_base_ = [
    'mmseg::_base_/models/upernet_r50.py',
    'mmseg::_base_/default_runtime.py',
    'mmseg::_base_/schedules/schedule_20k.py',
    '../_base_/seg_datasets/camvid.py',
    '../_base_/backbones/efficientnet_lite0.py',
    '../_base_/protune.py',
]

norm_cfg = dict(type='BN', requires_grad=True)
camvid_head = dict(
    num_classes=_base_.num_classes,
    ignore_index=_base_.ignore_index,
    norm_cfg=norm_cfg,
    loss_decode=dict(avg_non_ignore=True),
)
model = dict(
    pretrained=None,
    data_preprocessor=dict(size=(360, 480), seg_pad_val=_base_.ignore_index, **_base_.lite_preprocessor),
    backbone=dict(
        _delete_=True, type='protuning_mm.TunedBackbone', tuning=_base_.lite_tuning, backbone=_base_.seg_backbone
    ),
    decode_head=dict(in_channels=_base_.dense_channels, **camvid_head),
    auxiliary_head=dict(in_channels=112, **camvid_head),
)
train_cfg = dict(max_iters=4000, val_interval=400)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-3, weight_decay=0.01), **_base_.protune_optim_wrapper
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', eta_min=1e-6, power=0.9, by_epoch=False, begin=50, end=4000),
]
default_hooks = dict(**_base_.protune_hooks, logger=dict(interval=50))
default_hooks['checkpoint']['interval'] = 400
