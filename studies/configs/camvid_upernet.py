# As camvid.py, with UPerNet's head.
_base_ = './camvid.py'

model = dict(
    decode_head=dict(
        _delete_=True,
        type='UPerHead',
        in_channels={{_base_.dense_channels}},
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=128,
        dropout_ratio=0.1,
        num_classes={{_base_.num_classes}},
        ignore_index={{_base_.ignore_index}},
        norm_cfg=dict(type='BN', requires_grad=True),
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
    ),
)
