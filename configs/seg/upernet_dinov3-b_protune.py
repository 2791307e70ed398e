# UPerNet, DINOv3 ViT-B/16 frozen and pro-tuned, ADE20K, 512x512, 160k
_base_ = ['mmseg::vit/vit_deit-s16_mln_upernet_8xb2-160k_ade20k-512x512.py', '../_base_/protune.py']

model = dict(
    pretrained=None,
    backbone=dict(
        _delete_=True,
        backbone=dict(
            type='timm',
            model_name='vit_base_patch16_dinov3.lvd1689m',
            dynamic_img_size=True,
            dynamic_img_pad=True,
            out_indices=(0, 1, 2, 3),
            # timm downloads the weights of this name; a path reads a local file
            init_cfg=dict(type='Pretrained', checkpoint='timm://vit_base_patch16_dinov3.lvd1689m'),
        ),
        **_base_.protune_any_backbone,
    ),
    neck=dict(in_channels=[768] * 4, out_channels=768),
    decode_head=dict(in_channels=[768] * 4),
    auxiliary_head=dict(in_channels=768),
)
optim_wrapper = _base_.protune_optim_wrapper
default_hooks = _base_.protune_hooks
