# ResNet-50, SSF, CIFAR-100
_base_ = ['./r50_protune_cifar100.py', '../_base_/tunings/ssf.py']

model = dict(backbone=dict(tuning=_base_.tuning))
