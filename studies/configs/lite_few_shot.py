# As lite.py, with 1 to 16 images per class and 100 steps. The candidates are compared on 1,000 other images, more than
# a user with so few images has.
_base_ = './lite_long_tail.py'

iterations = 100
train_arrays = dict(
    type='protuning_mm.ImageArrays', data_root='data/studies/lite/cifar10', pipeline={{_base_.train_pipeline}}
)
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='protuning_mm.FewShot',
        shots=1,
        dataset=dict(type='protuning_mm.HeldOut', fraction=0.2, part='train', dataset=train_arrays),
    ),
)
train_cfg = dict(max_iters=iterations, val_interval=iterations)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=5),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=False, begin=5, end=iterations),
]
