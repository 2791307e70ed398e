# Oxford-IIIT Pets, 37 breeds
_base_ = './photographs.py'

data_root = 'data/Oxford-IIIT_Pets'
num_classes = 37
data_preprocessor = dict(num_classes=num_classes)
data = dict(type='OxfordIIITPet', data_root=data_root)
train_dataloader = dict(dataset=dict(**data, split='trainval'))
val_dataloader = dict(dataset=dict(**data, split='test'))
test_dataloader = val_dataloader
