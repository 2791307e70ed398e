# ResNet-50, every parameter fine-tuned, CIFAR-100
_base_ = ['./r50_protune_cifar100.py', '../_base_/tunings/full.py']

model = dict(backbone=dict(tuning=_base_.tuning))
