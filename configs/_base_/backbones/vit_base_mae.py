# ViT-B pre-trained as a masked autoencoder (He et al., CVPR 2022), 224x224
_base_ = './deit_base.py'

file = 'https://dl.fbaipublicfiles.com/mae/pretrain/mae_pretrain_vit_base.pth'
cls_backbone = dict(init_cfg=dict(checkpoint=file))
det_backbone = dict(init_cfg=dict(checkpoint=file))
seg_backbone = dict(init_cfg=dict(checkpoint=file))
