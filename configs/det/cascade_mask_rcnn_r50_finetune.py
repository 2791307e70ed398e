# For comparison with cascade_mask_rcnn_r50_protune.py: the same model, with every parameter fine-tuned
_base_ = 'mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py'

custom_imports = dict(imports=['protuning_mm'], allow_failed_imports=False)
model = dict(backbone=dict(frozen_stages=-1))
default_hooks = dict(
    checkpoint=dict(type='protuning_mm.CheckpointHook'),
    tuning=dict(type='protuning_mm.TuningHook'),
)
