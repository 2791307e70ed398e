# Faster R-CNN, DINOv3 ViT-S/16 frozen and pro-tuned, simple feature pyramid and FPN, COCO, 1x
_base_ = ['mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', '../_base_/protune.py']

model = dict(
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
    # makes strides 4, 8, 16 and 32 from feature maps that all have stride 16
    neck=[
        dict(type='mmseg.Feature2Pyramid', embed_dim=384, rescales=[4, 2, 1, 0.5], norm_cfg=dict(type='BN')),
        dict(_base_.model.neck, in_channels=[384] * 4),
    ],
)
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    **_base_.protune_optim_wrapper,
)
default_hooks = _base_.protune_hooks
