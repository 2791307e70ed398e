# Oxford 102 Flowers; trained on the training and the validation images
_base_ = './photographs.py'

data_root = 'data/Flowers102'
num_classes = 102
data_preprocessor = dict(num_classes=num_classes)
data = dict(type='Flowers102', data_root=data_root)
train_dataloader = dict(dataset=dict(**data, split='trainval'))
val_dataloader = dict(dataset=dict(**data, split='test'))
test_dataloader = val_dataloader
