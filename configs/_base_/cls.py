# What every classification config has: a frozen, pro-tuned backbone, a linear head, our recipe (the paper's is open).
# A leaf names a data set and a backbone beside it, and takes from them
#   backbone=dict(backbone=_base_.cls_backbone), neck=_base_.cls_neck,
#   head=dict(in_channels=_base_.cls_channels, num_classes=_base_.num_classes)
_base_ = ['mmpretrain::_base_/default_runtime.py', './protune.py']

model = dict(
    type='ImageClassifier',
    backbone=_base_.protune_any_backbone,
    head=dict(type='LinearClsHead', loss=dict(type='CrossEntropyLoss', loss_weight=1.0), topk=(1,)),
)
default_hooks = _base_.protune_hooks

# prompts and a new head want a higher rate than fine-tuning a whole network does
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.01), **_base_.protune_optim_wrapper)
train_cfg = dict(by_epoch=True, max_epochs=30, val_interval=1)
val_cfg = dict()
test_cfg = dict()
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, begin=0, end=3, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=3, end=30, convert_to_iter_based=True),
]
auto_scale_lr = dict(base_batch_size=64)
