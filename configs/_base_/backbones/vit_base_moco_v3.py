# ViT-B pre-trained by MoCo v3 (Chen et al., ICCV 2021), 224x224
_base_ = './deit_base.py'

file = 'https://dl.fbaipublicfiles.com/moco-v3/vit-b-300ep/vit-b-300ep.pth.tar'
cls_backbone = dict(init_cfg=dict(checkpoint=file))
det_backbone = dict(init_cfg=dict(checkpoint=file))
seg_backbone = dict(init_cfg=dict(checkpoint=file))
