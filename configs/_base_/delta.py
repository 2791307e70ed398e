# Checkpoints that hold what was trained, without the frozen base. A leaf takes it beside one of our configs:
#   _base_ = ['./htc_r50_protune.py', '../_base_/delta.py']
#   default_hooks = _base_.delta_hooks
# or any run does, by --cfg-options default_hooks.checkpoint.type=protuning_mm.DeltaCheckpointHook
delta_hooks = dict(checkpoint=dict(type='protuning_mm.DeltaCheckpointHook'))
