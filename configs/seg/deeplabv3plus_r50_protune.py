# DeepLabV3+, ResNet-50 frozen and pro-tuned, ADE20K, 512x512, 160k
_base_ = ['mmseg::deeplabv3plus/deeplabv3plus_r50-d8_4xb4-160k_ade20k-512x512.py', '../_base_/protune.py']

model = dict(backbone=_base_.protune_backbone)
optim_wrapper = _base_.protune_optim_wrapper
default_hooks = _base_.protune_hooks
