# UPerNet, DeiT-S frozen and pro-tuned, ADE20K, 512x512, 160k
_base_ = ['mmseg::vit/vit_deit-s16_mln_upernet_8xb2-160k_ade20k-512x512.py', '../_base_/protune.py']

model = dict(
    pretrained='https://dl.fbaipublicfiles.com/deit/deit_small_patch16_224-cd65a155.pth',
    # the checkpoint has a bias in the patch embedding; mmseg's default does not
    backbone=dict(_delete_=True, backbone=dict(_base_.model.backbone, patch_bias=True), **_base_.protune_any_backbone),
)
optim_wrapper = _base_.protune_optim_wrapper
default_hooks = _base_.protune_hooks
