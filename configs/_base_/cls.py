# Base of all classification configs: a frozen, pro-tuned backbone, a linear head, and our training recipe (the paper
# does not give all of its settings). A config inherits this file, a data set and a backbone, and uses their variables:
#   backbone=dict(backbone=_base_.cls_backbone), neck=_base_.cls_neck,
#   head=dict(in_channels=_base_.cls_channels, num_classes=_base_.num_classes)
_base_ = ['mmpretrain::_base_/default_runtime.py', './protune.py']

model = dict(
    type='ImageClassifier',
    backbone=_base_.protune_any_backbone,
    head=dict(type='LinearClsHead', loss=dict(type='CrossEntropyLoss', loss_weight=1.0), topk=(1,)),
)
default_hooks = _base_.protune_hooks

# prompts and a new head need a higher learning rate than fine-tuning of a whole network
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.01), **_base_.protune_optim_wrapper)
train_cfg = dict(by_epoch=True, max_epochs=30, val_interval=1)
val_cfg = dict()
test_cfg = dict()
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, begin=0, end=3, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=3, end=30, convert_to_iter_based=True),
]
auto_scale_lr = dict(base_batch_size=64)
