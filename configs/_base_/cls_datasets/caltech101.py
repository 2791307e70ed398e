# Caltech101 with its background class, mmpretrain's split (30 training images per class)
_base_ = './photographs.py'

data_root = 'data/caltech-101'
num_classes = 102
data_preprocessor = dict(num_classes=num_classes)
data = dict(type='Caltech101', data_root=data_root)
train_dataloader = dict(dataset=dict(**data, split='train'))
val_dataloader = dict(dataset=dict(**data, split='test'))
test_dataloader = val_dataloader
