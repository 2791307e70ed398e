# ResNet-50, with torchvision's weights; for segmentation, mmseg's V1c
cls_backbone = dict(
    type='mmpretrain.ResNet',
    depth=50,
    out_indices=(3,),
    init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
)
cls_neck = dict(type='GlobalAveragePooling')
cls_channels = 2048
det_backbone = dict(
    type='mmdet.ResNet', depth=50, init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50')
)
seg_backbone = dict(
    type='mmseg.ResNetV1c',
    depth=50,
    dilations=(1, 1, 1, 1),
    strides=(1, 2, 2, 2),
    init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://resnet50_v1c'),
)
