# A run of a study: a small frozen network and a tuning, on the digits of studies/data.py. The axes override settings.
default_scope = 'mmpretrain'
custom_imports = dict(imports=['protuning_mm'], allow_failed_imports=False)

data_root = 'data/studies'
iterations = 200

model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True, num_classes=10),
    backbone=dict(
        type='protuning_mm.TunedBackbone',
        # a quarter of the usual channels, and half the resolution after the first convolution
        backbone=dict(type='ResNet_CIFAR', depth=18, stem_channels=16, base_channels=16, strides=(2, 2, 2, 2)),
        tuning=dict(type='pro'),
        # studies/sources.py stores the networks of both worlds in one file, with the world's name as prefix
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/studies/sources/resnet.pth', prefix='textures.'),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=128, loss=dict(type='CrossEntropyLoss'), topk=(1,)),
)

# no flip, because a mirrored digit is not a digit
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=32, padding=3, padding_mode='reflect'),
    dict(type='PackInputs'),
]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
loader = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(
    **loader,
    batch_size=32,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    # fifty of the hundred images per class; targets change both numbers
    dataset=dict(
        type='protuning_mm.LongTailed',
        imbalance_ratio=1,
        max_per_class=50,
        dataset=dict(
            type='CustomDataset', data_root=f'{data_root}/digits', data_prefix='train', pipeline=train_pipeline
        ),
    ),
)
val_dataloader = dict(
    **loader,
    batch_size=100,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CustomDataset', data_root=f'{data_root}/digits', data_prefix='val', pipeline=test_pipeline),
)
test_dataloader = dict(
    **loader,
    batch_size=100,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CustomDataset', data_root=f'{data_root}/digits', data_prefix='test', pipeline=test_pipeline),
)
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator

train_cfg = dict(by_epoch=False, max_iters=iterations, val_interval=iterations)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    constructor='protuning_mm.TrainableOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=5e-3, weight_decay=0.01),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=10),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=False, begin=10, end=iterations),
]

# few logs and no checkpoints; only the results of a run are kept
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=10),
    param_scheduler=dict(type='ParamSchedulerHook'),
    sampler_seed=None,
    checkpoint=None,
    tuning=dict(type='protuning_mm.TuningHook'),
    audit=dict(type='protuning_mm.FrozenAuditHook'),
)
log_processor = dict(by_epoch=False)
log_level = 'WARNING'
env_cfg = dict(cudnn_benchmark=False)
visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])
randomness = dict(seed=0)
