# RTMDet-s, CSPNeXt frozen and pro-tuned, COCO, 300 epochs
_base_ = ['mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py', '../_base_/protune.py']

model = dict(backbone=dict(_delete_=True, backbone=_base_.model.backbone, **_base_.protune_any_backbone))
optim_wrapper = _base_.protune_optim_wrapper
default_hooks = _base_.protune_hooks
