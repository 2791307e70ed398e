# Save deltas: checkpoints of the trained tensors without the frozen base. Inherit this file next to one of our configs:
#   _base_ = ['./htc_r50_protune.py', '../_base_/delta.py']
#   default_hooks = _base_.delta_hooks
# For a single run, use --cfg-options default_hooks.checkpoint.type=protuning_mm.DeltaCheckpointHook
delta_hooks = dict(checkpoint=dict(type='protuning_mm.DeltaCheckpointHook'))
