# A source network, trained on all of one world. studies/sources.py runs this config for each world and backbone.
_base_ = './base.py'

iterations = 500
batch_size = 64
model = dict(
    backbone=dict(tuning=dict(type='full'), init_cfg=None, allow_random_backbone=True),
    head=dict(loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, _delete_=True)),
)
train_dataloader = dict(
    batch_size=batch_size,
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_root='data/studies/digits',
        data_prefix='source',
        pipeline=_base_.train_pipeline,
    ),
)
val_dataloader = dict(dataset=dict(data_prefix='source_val'))
train_cfg = dict(max_iters=iterations, val_interval=iterations)
optim_wrapper = dict(optimizer=dict(lr=3e-3, weight_decay=0.05), clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=60),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=False, begin=60, end=iterations),
]
