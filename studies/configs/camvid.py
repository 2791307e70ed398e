# configs/seg/fcn_efficientnet-lite0_protune_camvid.py in minutes on a CPU core: half the image size, 400 steps of four
# crops, heads of a quarter of the width.
_base_ = '../../configs/seg/fcn_efficientnet-lite0_protune_camvid.py'

custom_imports = dict(imports=['protuning_mm', 'protuning_lab.channels_last'], allow_failed_imports=False)
iterations = 400
crop = (180, 240)
model = dict(
    data_preprocessor=dict(size=crop),
    decode_head=dict(channels=128),
    auxiliary_head=dict(channels=64),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(240, 180), ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop, cat_max_ratio=0.75, ignore_index={{_base_.ignore_index}}),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(240, 180), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
loader = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(**loader, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(**loader, batch_size=1, dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(**loader, batch_size=1, dataset=dict(pipeline=test_pipeline))
train_cfg = dict(max_iters=iterations, val_interval=iterations)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=20),
    dict(type='PolyLR', eta_min=1e-6, power=0.9, by_epoch=False, begin=20, end=iterations),
]
custom_hooks = [dict(type='ChannelsLastHook')]
