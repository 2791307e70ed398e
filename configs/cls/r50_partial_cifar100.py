# ResNet-50, its last two blocks tuned, CIFAR-100
_base_ = ['./r50_protune_cifar100.py', '../_base_/tunings/partial.py']

model = dict(backbone=dict(tuning=_base_.tuning))
