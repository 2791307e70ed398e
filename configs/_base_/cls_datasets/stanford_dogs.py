# Stanford Dogs, 120 breeds
_base_ = './photographs.py'

data_root = 'data/stanford-dogs'
num_classes = 120
data_preprocessor = dict(num_classes=num_classes)
data = dict(type='protuning_mm.StanfordDogs', data_root=data_root)
train_dataloader = dict(dataset=dict(**data, split='train'))
val_dataloader = dict(dataset=dict(**data, split='test'))
test_dataloader = val_dataloader
