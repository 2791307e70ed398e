# Base of the data sets of photographs, at 224 px: random crops and flips for training, center crops for testing.
num_classes = None  # set by each data set
data_preprocessor = dict(
    num_classes=num_classes, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=224, backend='pillow', interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=256, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]
loader = dict(batch_size=64, num_workers=4, persistent_workers=True)
train_dataloader = dict(
    **loader, sampler=dict(type='DefaultSampler', shuffle=True), dataset=dict(pipeline=train_pipeline)
)
val_dataloader = dict(
    **loader, sampler=dict(type='DefaultSampler', shuffle=False), dataset=dict(pipeline=test_pipeline)
)
test_dataloader = val_dataloader
val_evaluator = [dict(type='Accuracy', topk=(1,)), dict(type='protuning_mm.MeanClassAccuracy')]
test_evaluator = val_evaluator
