# For comparison with fcn_r50_protune.py: the same model, with every parameter fine-tuned
_base_ = 'mmseg::fcn/fcn_r50-d8_4xb4-160k_ade20k-512x512.py'

custom_imports = dict(imports=['protuning_mm'], allow_failed_imports=False)
model = dict(backbone=dict(frozen_stages=-1))
default_hooks = dict(
    checkpoint=dict(type='protuning_mm.CheckpointHook'),
    tuning=dict(type='protuning_mm.TuningHook'),
)
