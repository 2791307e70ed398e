# Swin-S (Liu et al., ICCV 2021), windows of 7, ImageNet-1K
file = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_small_patch4_window7_224.pth'
cls_backbone = dict(
    type='mmpretrain.SwinTransformer',
    arch='small',
    drop_path_rate=0.3,
    init_cfg=dict(type='Pretrained', checkpoint=file),
)
cls_neck = dict(type='GlobalAveragePooling')
cls_channels = 768
det_backbone = dict(
    type='mmdet.SwinTransformer',
    embed_dims=96,
    depths=(2, 2, 18, 2),
    num_heads=(3, 6, 12, 24),
    drop_path_rate=0.3,
    init_cfg=dict(type='Pretrained', checkpoint=file),
)
seg_backbone = dict(
    type='mmseg.SwinTransformer',
    embed_dims=96,
    depths=(2, 2, 18, 2),
    num_heads=(3, 6, 12, 24),
    drop_path_rate=0.3,
    init_cfg=dict(type='Pretrained', checkpoint=file),
)
