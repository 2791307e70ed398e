# ResNet-50, LoRA, CIFAR-100
_base_ = ['./r50_protune_cifar100.py', '../_base_/tunings/lora.py']

model = dict(backbone=dict(tuning=_base_.tuning))
