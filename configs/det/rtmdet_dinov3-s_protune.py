# RTMDet-s on DINOv3 ViT-S/16 frozen and pro-tuned, simple feature pyramid, COCO, 300 epochs
_base_ = ['mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py', '../_base_/protune.py']

model = dict(
    data_preprocessor=dict(  # of timm's DINOv3, in RGB
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True, pad_size_divisor=64
    ),
    backbone=dict(
        _delete_=True,
        backbone=dict(
            type='timm',
            model_name='vit_small_patch16_dinov3.lvd1689m',
            dynamic_img_size=True,
            dynamic_img_pad=True,
            out_indices=(0, 1, 2, 3),
            # timm downloads the weights of this name; a path reads a local file
            init_cfg=dict(type='Pretrained', checkpoint='timm://vit_small_patch16_dinov3.lvd1689m'),
        ),
        **_base_.protune_any_backbone,
    ),
    # makes strides 8, 16, 32 and 64 from feature maps that all have stride 16
    neck=[
        dict(type='mmseg.Feature2Pyramid', embed_dim=384, rescales=[2, 1, 0.5, 0.25], norm_cfg=dict(type='BN')),
        dict(_base_.model.neck, in_channels=[384] * 4),
    ],
    bbox_head=dict(anchor_generator=dict(strides=[8, 16, 32, 64])),
)
optim_wrapper = _base_.protune_optim_wrapper
default_hooks = _base_.protune_hooks
auto_scale_lr = dict(base_batch_size=256)
