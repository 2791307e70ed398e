# Cascade Mask R-CNN, DeiT-S frozen and pro-tuned, simple feature pyramid and FPN, COCO, 1x
_base_ = './cascade_mask_rcnn_swin-s_protune.py'

model = dict(
    backbone=dict(
        backbone=dict(
            _delete_=True,
            type='timm',
            model_name='deit_small_patch16_224',
            dynamic_img_size=True,
            dynamic_img_pad=True,
            out_indices=(0, 1, 2, 3),
            init_cfg=dict(
                type='Pretrained',
                checkpoint='https://dl.fbaipublicfiles.com/deit/deit_small_patch16_224-cd65a155.pth',
            ),
        ),
    ),
    # makes strides 4, 8, 16 and 32 from feature maps that all have stride 16
    neck=[
        dict(type='mmseg.Feature2Pyramid', embed_dim=384, rescales=[4, 2, 1, 0.5], norm_cfg=dict(type='BN')),
        dict(_base_.model.neck, in_channels=[384] * 4),
    ],
)
