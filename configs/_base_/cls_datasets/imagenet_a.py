# Trained on ImageNet with a head of 1000 classes, tested on ImageNet-A among its 200 classes. data/imagenet-a is the
# unpacked imagenet-a.tar.
_base_ = './photographs.py'

data_root = 'data/imagenet'
num_classes = 1000
data_preprocessor = dict(num_classes=num_classes)
data = dict(type='ImageNet', data_root=data_root)
train_dataloader = dict(dataset=dict(**data, split='train'))
val_dataloader = dict(dataset=dict(**data, split='val'))
val_evaluator = [dict(type='Accuracy', topk=(1,))]
test_dataloader = dict(dataset=dict(type='protuning_mm.ImageNetA', data_root='data/imagenet-a'))
test_evaluator = [dict(type='protuning_mm.SubsetAccuracy')]
