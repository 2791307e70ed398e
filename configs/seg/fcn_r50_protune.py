# FCN, ResNet-50 V1c (stride 8) frozen and pro-tuned, ADE20K, 512x512, 160k
_base_ = ['mmseg::fcn/fcn_r50-d8_4xb4-160k_ade20k-512x512.py', '../_base_/protune.py']

# V1c has a stem of three 3x3 convolutions
model = dict(backbone=dict(deep_stem=True, **_base_.protune_backbone))
optim_wrapper = _base_.protune_optim_wrapper
default_hooks = _base_.protune_hooks
