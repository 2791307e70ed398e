# ResNet-50, side tuning, CIFAR-100
_base_ = ['./r50_protune_cifar100.py', '../_base_/tunings/side.py']

model = dict(backbone=dict(tuning=_base_.tuning))
