# ResNet-50, Conv-Adapter, CIFAR-100
_base_ = ['./r50_protune_cifar100.py', '../_base_/tunings/conv_adapter.py']

model = dict(backbone=dict(tuning=_base_.tuning))
