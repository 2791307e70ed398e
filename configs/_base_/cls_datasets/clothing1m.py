# Clothing1M: trained on the million images with noisy labels, validated and tested on images with clean labels
_base_ = './photographs.py'

data_root = 'data/clothing1m'
num_classes = 14
data_preprocessor = dict(num_classes=num_classes)
data = dict(type='protuning_mm.Clothing1M', data_root=data_root)
train_dataloader = dict(dataset=dict(**data, split='noisy_train'))
val_dataloader = dict(dataset=dict(**data, split='clean_val'))
test_dataloader = dict(dataset=dict(**data, split='clean_test'))
