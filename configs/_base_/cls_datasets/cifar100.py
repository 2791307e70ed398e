# CIFAR-100 at 224 px, like CIFAR-10
_base_ = './cifar10.py'

data_root = 'data/cifar100'
num_classes = 100
data_preprocessor = dict(num_classes=num_classes)
cifar = dict(type='CIFAR100', data_root=data_root)
train_dataloader = dict(dataset=cifar)
val_dataloader = dict(dataset=cifar)
test_dataloader = val_dataloader
