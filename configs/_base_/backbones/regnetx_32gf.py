# RegNetX-32GF (Radosavovic et al., CVPR 2020); the hosts' lists of architectures end at 12GF, timm has its weights
cls_backbone = dict(type='timm', model_name='regnetx_320', pretrained=True)
cls_neck = None  # timm pools
cls_channels = 2520
det_backbone = dict(type='timm', model_name='regnetx_320', pretrained=True, out_indices=(0, 1, 2, 3))
seg_backbone = det_backbone
