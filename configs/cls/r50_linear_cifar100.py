# ResNet-50, linear probing, CIFAR-100
_base_ = ['./r50_protune_cifar100.py', '../_base_/tunings/linear.py']

model = dict(backbone=dict(tuning=_base_.tuning))
