# UPerNet, small enough for two CPU cores, on the digits and textures of tools/make_demo_data.py.
# The same model classes as in upernet_r50_protune.py, with a quarter of the channels in ResNet-50, and smaller heads.
_base_ = './upernet_r50_protune.py'

data_root = 'data/demo/ade'
# as in ADE20K, label 0 means other and is ignored; ADE20KDataset itself allows no other classes
dataset = dict(
    type='BaseSegDataset',
    data_root=data_root,
    reduce_zero_label=True,
    metainfo=dict(
        classes=('0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'brick', 'grass', 'gravel', 'photograph'),
        palette=[
            [230, 25, 75], [60, 180, 75], [255, 225, 25], [0, 130, 200], [245, 130, 48],
            [145, 30, 180], [70, 240, 240], [240, 50, 230], [210, 245, 60], [250, 190, 212],
            [170, 110, 40], [0, 128, 128], [128, 128, 128], [40, 40, 90],
        ],
    ),
)  # fmt: skip
num_classes = 14
width = 64
norm_cfg = dict(type='BN')
head = dict(
    channels=width,
    num_classes=num_classes,
    norm_cfg=norm_cfg,
    # each digit has a hundredth of the pixels; without weights, this short schedule would not learn digits at all
    loss_decode=dict(class_weight=[10.0] * 10 + [1.0] * 4),
)

model = dict(
    data_preprocessor=dict(size=(192, 256)),
    pretrained='{{ fileDirname }}/../../demo/source_resnet50_w16.pth',
    # the source network is a ResNet-50 as in mmdet: its stem is one 7x7 convolution
    backbone=dict(base_channels=16, stem_channels=16, deep_stem=False, norm_cfg=norm_cfg),
    decode_head=dict(in_channels=[64, 128, 256, 512], **head),
    auxiliary_head=dict(in_channels=256, **head),
)

# no flip, because a mirrored digit is not a digit
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='Resize', scale=(256, 192), keep_ratio=True),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(256, 192), keep_ratio=True),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(batch_size=4, num_workers=1, dataset=dict(**dataset, pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(**dataset, pipeline=test_pipeline))
test_dataloader = val_dataloader

train_cfg = dict(max_iters=300, val_interval=100)
optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=2e-3, weight_decay=0.01))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='PolyLR', eta_min=1e-5, power=0.9, begin=30, end=300, by_epoch=False),
]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=100, max_keep_ckpts=1))
visualizer = dict(vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')])
