# Cascade Mask R-CNN, Swin-S frozen and pro-tuned, FPN, COCO, 1x
_base_ = ['mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py', '../_base_/protune.py']

model = dict(
    backbone=dict(
        _delete_=True,
        backbone=dict(
            type='SwinTransformer',
            embed_dims=96,
            depths=(2, 2, 18, 2),
            num_heads=(3, 6, 12, 24),
            window_size=7,
            drop_path_rate=0.2,
            init_cfg=dict(
                type='Pretrained',
                checkpoint='https://github.com/SwinTransformer/storage/releases/download/v1.0.0/'
                'swin_small_patch4_window7_224.pth',
            ),
        ),
        **_base_.protune_any_backbone,
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
# the optimizer of mmdet's own detectors with Swin
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(
        custom_keys={
            'absolute_pos_embed': dict(decay_mult=0.0),
            'relative_position_bias_table': dict(decay_mult=0.0),
            'norm': dict(decay_mult=0.0),
        }
    ),
    **_base_.protune_optim_wrapper,
)
default_hooks = _base_.protune_hooks
