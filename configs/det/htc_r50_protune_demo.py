# HTC with its semantic head, small enough for two CPU cores, on the digits of tools/make_demo_data.py (docs/demo.md).
# The same model classes as in htc_r50_protune.py, with a quarter of the channels in ResNet-50, neck and heads.
_base_ = './htc_r50_protune.py'

data_root = 'data/demo/coco/'
metainfo = dict(classes=('0', '1', '2', '3', '4', '5', '6', '7', '8', '9'))
num_classes = 10
width = 64

model = dict(
    backbone=dict(
        base_channels=16,
        init_cfg=dict(checkpoint='{{ fileDirname }}/../../demo/source_resnet50_w16.pth'),
    ),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=width),
    # digits are 40 to 90 pixels high, and narrower than high
    rpn_head=dict(
        in_channels=width,
        feat_channels=width,
        anchor_generator=dict(scales=[4], ratios=[1.0, 1.5, 2.5]),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=width),
        mask_roi_extractor=dict(out_channels=width),
        # 7 instead of 14: on a CPU, RoIAlign's backward pass would otherwise take a third of an iteration
        semantic_roi_extractor=dict(out_channels=width, roi_layer=dict(output_size=7)),
        bbox_head=[
            dict(head, in_channels=width, fc_out_channels=256, num_classes=num_classes)
            for head in _base_.model.roi_head.bbox_head
        ],
        mask_head=[
            dict(head, in_channels=width, conv_out_channels=width, num_convs=2, num_classes=num_classes)
            for head in _base_.model.roi_head.mask_head
        ],
        # ten digits, brick, grass, gravel and photograph
        semantic_head=dict(in_channels=width, conv_out_channels=width, num_convs=2, num_classes=14),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=200, max_per_img=100),
        rcnn=[dict(stage, sampler=dict(stage['sampler'], num=32)) for stage in _base_.model.train_cfg.rcnn],
    ),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=100), rcnn=dict(score_thr=0.05, max_per_img=20)),
)

# no flip, because a mirrored digit is not a digit
resize = dict(type='Resize', scale=(256, 192), keep_ratio=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True, with_seg=True),
    resize,
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    resize,
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(
    num_workers=1,
    dataset=dict(data_root=data_root, metainfo=metainfo, filter_cfg=dict(min_size=1), pipeline=train_pipeline),
)
val_dataloader = dict(num_workers=1, dataset=dict(data_root=data_root, metainfo=metainfo, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator

train_cfg = dict(max_epochs=3)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=2e-3, weight_decay=0.01),
    clip_grad=dict(max_norm=10),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=0, T_max=3, convert_to_iter_based=True),
]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(max_keep_ckpts=1))
visualizer = dict(vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')])
