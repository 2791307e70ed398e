# Mask2Former, ResNet-50 frozen and pro-tuned, ADE20K, 512x512, 160k
# The host's config has custom_imports of its own, so that ../_base_/protune.py cannot be a second base.
_base_ = 'mmseg::mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py'

custom_imports = dict(imports=['mmdet.models', 'protuning_mm'], allow_failed_imports=False)
model = dict(backbone=dict(type='protuning_mm.ProTunedResNet'))
optim_wrapper = dict(constructor='protuning_mm.TrainableOptimWrapperConstructor')
default_hooks = dict(
    checkpoint=dict(type='protuning_mm.CheckpointHook'),
    tuning=dict(type='protuning_mm.TuningHook'),
    audit=dict(type='protuning_mm.FrozenAuditHook'),
    resume=dict(type='protuning_mm.ExactResumeHook'),
)
