# CIFAR-10 at 224 px, normalised as for the pre-trained networks
_base_ = 'mmpretrain::_base_/datasets/cifar10_bs16.py'

data_root = 'data/cifar10'
num_classes = 10
# mmpretrain's CIFAR images are RGB already
data_preprocessor = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])

resize = dict(type='Resize', scale=224, interpolation='bicubic')
train_pipeline = [
    dict(type='RandomCrop', crop_size=32, padding=4),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    resize,
    dict(type='PackInputs'),
]
test_pipeline = [resize, dict(type='PackInputs')]

cifar = dict(data_root=data_root, download=False)
train_dataloader = dict(batch_size=64, dataset=dict(**cifar, pipeline=train_pipeline))
val_dataloader = dict(batch_size=64, dataset=dict(**cifar, pipeline=test_pipeline))
test_dataloader = val_dataloader
