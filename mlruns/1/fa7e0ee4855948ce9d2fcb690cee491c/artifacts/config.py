bn = dict(type='BN')
crop_size = (
    512,
    512,
)
custom_imports = dict(
    allow_failed_imports=False,
    imports=[
        'protuning_mm',
    ],
)
data_preprocessor = dict(
    _scope_='mmseg',
    bgr_to_rgb=True,
    mean=[
        123.675,
        116.28,
        103.53,
    ],
    pad_val=0,
    seg_pad_val=255,
    size=(
        512,
        512,
    ),
    std=[
        58.395,
        57.12,
        57.375,
    ],
    type='SegDataPreProcessor',
)
data_root = 'data/ade/ADEChallengeData2016'
dataset_type = 'ADE20KDataset'
default_hooks = dict(
    audit=dict(type='protuning_mm.FrozenAuditHook'),
    checkpoint=dict(_scope_='mmseg', by_epoch=False, interval=1, type='protuning_mm.CheckpointHook'),
    logger=dict(_scope_='mmseg', interval=1, log_metric_by_epoch=False, type='LoggerHook'),
    param_scheduler=dict(_scope_='mmseg', type='ParamSchedulerHook'),
    resume=dict(type='protuning_mm.ExactResumeHook'),
    sampler_seed=dict(_scope_='mmseg', type='DistSamplerSeedHook'),
    timer=dict(_scope_='mmseg', type='IterTimerHook'),
    tuning=dict(type='protuning_mm.TuningHook'),
    visualization=dict(_scope_='mmseg', type='SegVisualizationHook'),
)
default_scope = 'mmseg'
env_cfg = dict(
    cudnn_benchmark=True, dist_cfg=dict(backend='nccl'), mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0)
)
img_ratios = [
    0.5,
    0.75,
    1.0,
    1.25,
    1.5,
    1.75,
]
launcher = 'none'
load = dict(num_workers=0, persistent_workers=False)
load_from = None
log_level = 'INFO'
log_processor = dict(by_epoch=False)
model = dict(
    _scope_='mmseg',
    auxiliary_head=dict(
        align_corners=False,
        channels=8,
        concat_input=False,
        dropout_ratio=0.1,
        in_channels=32,
        in_index=2,
        loss_decode=dict(loss_weight=0.4, type='CrossEntropyLoss', use_sigmoid=False),
        norm_cfg=dict(requires_grad=True, type='BN'),
        num_classes=3,
        num_convs=1,
        type='FCNHead',
    ),
    backbone=dict(
        allow_random_backbone=False,
        base_channels=8,
        contract_dilation=True,
        deep_stem=True,
        depth=18,
        dilations=(
            1,
            1,
            2,
            4,
        ),
        norm_cfg=dict(requires_grad=True, type='BN'),
        norm_eval=False,
        num_stages=4,
        out_indices=(
            0,
            1,
            2,
            3,
        ),
        prompt=dict(kernel_size=5, ratio=0.32),
        prompt_stages=None,
        strides=(
            1,
            2,
            1,
            1,
        ),
        style='pytorch',
        type='protuning_mm.ProTunedResNet',
    ),
    data_preprocessor=dict(
        bgr_to_rgb=True,
        mean=[
            123.675,
            116.28,
            103.53,
        ],
        pad_val=0,
        seg_pad_val=255,
        size=(
            64,
            64,
        ),
        std=[
            58.395,
            57.12,
            57.375,
        ],
        type='SegDataPreProcessor',
    ),
    decode_head=dict(
        align_corners=False,
        channels=8,
        concat_input=True,
        dropout_ratio=0.1,
        in_channels=64,
        in_index=3,
        loss_decode=dict(loss_weight=1.0, type='CrossEntropyLoss', use_sigmoid=False),
        norm_cfg=dict(requires_grad=True, type='BN'),
        num_classes=3,
        num_convs=2,
        type='FCNHead',
    ),
    pretrained='/tmp/pytest-of-root/pytest-253/test_mlflow0/resnet18v1c.pth',
    test_cfg=dict(mode='whole'),
    train_cfg=dict(),
    type='EncoderDecoder',
)
norm_cfg = dict(_scope_='mmseg', requires_grad=True, type='SyncBN')
optim_wrapper = dict(
    _scope_='mmseg',
    clip_grad=None,
    constructor='protuning_mm.TrainableOptimWrapperConstructor',
    optimizer=dict(lr=0.01, momentum=0.9, type='SGD', weight_decay=0.0005),
    type='OptimWrapper',
)
optimizer = dict(_scope_='mmseg', lr=0.01, momentum=0.9, type='SGD', weight_decay=0.0005)
own = dict(
    data_root='/tmp/pytest-of-root/pytest-253/test_mlflow0/ade',
    img_suffix='.jpg',
    metainfo=dict(
        classes=(
            'a',
            'b',
            'c',
        ),
        palette=[
            [
                255,
                0,
                0,
            ],
            [
                0,
                255,
                0,
            ],
            [
                0,
                0,
                255,
            ],
        ],
    ),
    reduce_zero_label=True,
    seg_map_suffix='.png',
    type='BaseSegDataset',
)
param_scheduler = [
    dict(_scope_='mmseg', begin=0, by_epoch=False, end=160000, eta_min=0.0001, power=0.9, type='PolyLR'),
]
protune_any_backbone = dict(tuning=dict(type='pro'), type='protuning_mm.TunedBackbone')
protune_backbone = dict(
    allow_random_backbone=False,
    prompt=dict(kernel_size=5, ratio=0.32),
    prompt_stages=None,
    type='protuning_mm.ProTunedResNet',
)
protune_hooks = dict(
    audit=dict(type='protuning_mm.FrozenAuditHook'),
    checkpoint=dict(type='protuning_mm.CheckpointHook'),
    resume=dict(type='protuning_mm.ExactResumeHook'),
    tuning=dict(type='protuning_mm.TuningHook'),
)
protune_optim_wrapper = dict(constructor='protuning_mm.TrainableOptimWrapperConstructor')
resume = False
test_cfg = dict(_scope_='mmseg', type='TestLoop')
test_dataloader = dict(
    batch_size=1,
    dataset=dict(
        _scope_='mmseg',
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        data_root='/tmp/pytest-of-root/pytest-253/test_mlflow0/ade',
        img_suffix='.jpg',
        metainfo=dict(
            classes=(
                'a',
                'b',
                'c',
            ),
            palette=[
                [
                    255,
                    0,
                    0,
                ],
                [
                    0,
                    255,
                    0,
                ],
                [
                    0,
                    0,
                    255,
                ],
            ],
        ),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(reduce_zero_label=True, type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ],
        reduce_zero_label=True,
        seg_map_suffix='.png',
        type='BaseSegDataset',
    ),
    num_workers=0,
    persistent_workers=False,
    sampler=dict(_scope_='mmseg', shuffle=False, type='DefaultSampler'),
)
test_evaluator = dict(
    _scope_='mmseg',
    iou_metrics=[
        'mIoU',
    ],
    type='IoUMetric',
)
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(reduce_zero_label=True, type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_cfg = dict(_scope_='mmseg', max_iters=2, type='IterBasedTrainLoop', val_interval=2)
train_dataloader = dict(
    batch_size=2,
    dataset=dict(
        _scope_='mmseg',
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        data_root='/tmp/pytest-of-root/pytest-253/test_mlflow0/ade',
        img_suffix='.jpg',
        metainfo=dict(
            classes=(
                'a',
                'b',
                'c',
            ),
            palette=[
                [
                    255,
                    0,
                    0,
                ],
                [
                    0,
                    255,
                    0,
                ],
                [
                    0,
                    0,
                    255,
                ],
            ],
        ),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(reduce_zero_label=True, type='LoadAnnotations'),
            dict(
                crop_size=(
                    64,
                    64,
                ),
                type='RandomCrop',
            ),
            dict(type='PackSegInputs'),
        ],
        reduce_zero_label=True,
        seg_map_suffix='.png',
        type='BaseSegDataset',
    ),
    num_workers=0,
    persistent_workers=False,
    sampler=dict(_scope_='mmseg', shuffle=True, type='InfiniteSampler'),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(reduce_zero_label=True, type='LoadAnnotations'),
    dict(
        crop_size=(
            64,
            64,
        ),
        type='RandomCrop',
    ),
    dict(type='PackSegInputs'),
]
tta_model = dict(_scope_='mmseg', type='SegTTAModel')
tta_pipeline = [
    dict(_scope_='mmseg', backend_args=None, type='LoadImageFromFile'),
    dict(
        _scope_='mmseg',
        transforms=[
            [
                dict(keep_ratio=True, scale_factor=0.5, type='Resize'),
                dict(keep_ratio=True, scale_factor=0.75, type='Resize'),
                dict(keep_ratio=True, scale_factor=1.0, type='Resize'),
                dict(keep_ratio=True, scale_factor=1.25, type='Resize'),
                dict(keep_ratio=True, scale_factor=1.5, type='Resize'),
                dict(keep_ratio=True, scale_factor=1.75, type='Resize'),
            ],
            [
                dict(direction='horizontal', prob=0.0, type='RandomFlip'),
                dict(direction='horizontal', prob=1.0, type='RandomFlip'),
            ],
            [
                dict(type='LoadAnnotations'),
            ],
            [
                dict(type='PackSegInputs'),
            ],
        ],
        type='TestTimeAug',
    ),
]
val_cfg = dict(_scope_='mmseg', type='ValLoop')
val_dataloader = dict(
    batch_size=1,
    dataset=dict(
        _scope_='mmseg',
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        data_root='/tmp/pytest-of-root/pytest-253/test_mlflow0/ade',
        img_suffix='.jpg',
        metainfo=dict(
            classes=(
                'a',
                'b',
                'c',
            ),
            palette=[
                [
                    255,
                    0,
                    0,
                ],
                [
                    0,
                    255,
                    0,
                ],
                [
                    0,
                    0,
                    255,
                ],
            ],
        ),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(reduce_zero_label=True, type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ],
        reduce_zero_label=True,
        seg_map_suffix='.png',
        type='BaseSegDataset',
    ),
    num_workers=0,
    persistent_workers=False,
    sampler=dict(_scope_='mmseg', shuffle=False, type='DefaultSampler'),
)
val_evaluator = dict(
    _scope_='mmseg',
    iou_metrics=[
        'mIoU',
    ],
    type='IoUMetric',
)
vis_backends = [
    dict(_scope_='mmseg', type='LocalVisBackend'),
]
visualizer = dict(
    _scope_='mmseg',
    name="dict(type='MLflowVis",
    type='SegLocalVisualizer',
    vis_backends=[
        dict(type='LocalVisBackend'),
        dict(
            exp_name='blood',
            tracking_uri='sqlite:////tmp/pytest-of-root/pytest-253/test_mlflow0/mlflow.db',
            type='MLflowVisBackend',
        ),
    ],
)
weights = '/tmp/pytest-of-root/pytest-253/test_mlflow0/resnet18v1c.pth'
work_dir = '/tmp/pytest-of-root/pytest-253/test_mlflow0/run'
