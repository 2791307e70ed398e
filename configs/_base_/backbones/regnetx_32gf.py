# RegNetX-32GF (Radosavovic et al., CVPR 2020); from timm, because mmdet, mmseg and mmpretrain stop at 12GF
cls_backbone = dict(type='timm', model_name='regnetx_320', pretrained=True)
cls_neck = None  # timm applies the pooling
cls_channels = 2520
det_backbone = dict(type='timm', model_name='regnetx_320', pretrained=True, out_indices=(0, 1, 2, 3))
seg_backbone = det_backbone
