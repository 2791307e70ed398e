# configs/det/faster_rcnn_efficientnet-lite0_protune_bccd.py in minutes on a CPU core: half the image size, 300 steps of
# two images, 64 instead of 512 regions of an image, an FPN of half the width.
_base_ = '../../configs/det/faster_rcnn_efficientnet-lite0_protune_bccd.py'

custom_imports = dict(imports=['protuning_mm', 'protuning_lab.channels_last'], allow_failed_imports=False)
iterations = 300
scale = (320, 240)
width = 128
model = dict(
    neck=dict(out_channels=width),
    rpn_head=dict(in_channels=width, feat_channels=width, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=width),
        bbox_head=dict(in_channels=width, fc_out_channels=256),
    ),
    train_cfg=dict(rpn_proposal=dict(nms_pre=500, max_per_img=300), rcnn=dict(sampler=dict(num=64))),
    test_cfg=dict(rpn=dict(nms_pre=300, max_per_img=150)),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'instances'),
    ),
]
loader = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(
    **loader, batch_size=2, sampler=dict(type='InfiniteSampler'), dataset=dict(pipeline=train_pipeline)
)
val_dataloader = dict(**loader, dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(**loader, dataset=dict(pipeline=test_pipeline))
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=iterations, val_interval=iterations)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=20),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=False, begin=20, end=iterations),
]
custom_hooks = [dict(type='ChannelsLastHook')]
