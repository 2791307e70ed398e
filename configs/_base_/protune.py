# What Pro-Tuning changes in a config of mmdet, mmseg or mmpretrain (the host library). mmengine does not allow the same
# key in two base configs, so a config refers to these variables by name:
#   model = dict(backbone=_base_.protune_backbone)
custom_imports = dict(imports=['protuning_mm'], allow_failed_imports=False)

protune_backbone = dict(
    type='protuning_mm.ProTunedResNet',
    # a prompt block after every stage; arguments of protuning_mm.PromptBlock
    prompt_stages=None,
    prompt=dict(ratio=0.32, kernel_size=5),
    allow_random_backbone=False,
)
# for any other backbone: backbone=dict(_delete_=True, backbone=<the host library's>, **_base_.protune_any_backbone)
protune_any_backbone = dict(type='protuning_mm.TunedBackbone', tuning=dict(type='pro'))
# gives only trained parameters to the optimizer
protune_optim_wrapper = dict(constructor='protuning_mm.TrainableOptimWrapperConstructor')
protune_hooks = dict(
    checkpoint=dict(type='protuning_mm.CheckpointHook'),
    tuning=dict(type='protuning_mm.TuningHook'),
    audit=dict(type='protuning_mm.FrozenAuditHook'),
    resume=dict(type='protuning_mm.ExactResumeHook'),
)
