# BCCD, blood cells: 364 images of 640x480, boxes of red cells, white cells and platelets in VOC's XML. Get it from
# https://github.com/Shenggan/BCCD_Dataset (MIT): data_root is its folder BCCD, with Annotations, ImageSets and
# JPEGImages. Two of its boxes have no area; they are ignored.
data_root = 'data/bccd/'
num_classes = 3
backend_args = None

train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=backend_args),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(640, 480), keep_ratio=True),
    dict(type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', backend_args=backend_args),
    dict(type='Resize', scale=(640, 480), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    # the metric reads the boxes from `instances`
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'instances'),
    ),
]
bccd = dict(
    type='XMLDataset',
    data_root=data_root,
    data_prefix=dict(sub_data_root=''),
    metainfo=dict(classes=('RBC', 'WBC', 'Platelets'), palette=[(220, 60, 60), (60, 90, 220), (240, 190, 40)]),
    backend_args=backend_args,
)
train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(
        **bccd,
        ann_file='ImageSets/Main/train.txt',
        filter_cfg=dict(filter_empty_gt=True, bbox_min_size=1),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**bccd, ann_file='ImageSets/Main/val.txt', test_mode=True, pipeline=test_pipeline),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**bccd, ann_file='ImageSets/Main/test.txt', test_mode=True, pipeline=test_pipeline),
)
val_evaluator = dict(type='CocoMetric', metric='bbox')
test_evaluator = val_evaluator
