# ResNet-50, norm tuning, CIFAR-100
_base_ = ['./r50_protune_cifar100.py', '../_base_/tunings/norm.py']

model = dict(backbone=dict(tuning=_base_.tuning))
