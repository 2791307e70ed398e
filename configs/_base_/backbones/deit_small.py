# DeiT-S (Touvron et al., ICML 2021), 224x224
file = 'https://dl.fbaipublicfiles.com/deit/deit_small_patch16_224-cd65a155.pth'
cls_backbone = dict(
    type='mmpretrain.VisionTransformer',
    arch='deit-small',
    init_cfg=dict(type='Pretrained', checkpoint=file),
)
cls_neck = None  # the head reads the class token
cls_channels = 384
det_backbone = dict(
    type='timm',
    model_name='deit_small_patch16_224',
    dynamic_img_size=True,
    dynamic_img_pad=True,
    out_indices=(0, 1, 2, 3),
    init_cfg=dict(type='Pretrained', checkpoint=file),
)
seg_backbone = dict(
    type='mmseg.VisionTransformer',
    img_size=(512, 512),
    embed_dims=384,
    num_layers=12,
    num_heads=6,
    out_indices=(2, 5, 8, 11),
    patch_bias=True,
    norm_cfg=dict(type='LN', eps=1e-6),
    init_cfg=dict(type='Pretrained', checkpoint=file),
)
