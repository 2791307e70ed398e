# The whole grid: every tuning on every target, backbone and amount of data. It takes days; headline.py is a part of it.
_base_ = './axes.py'

title = 'The whole grid'
config = '../configs/base.py'
most = 'train_dataloader.dataset.max_per_class'
axes = dict(
    target={**_base_.targets, **{f'digits_{number}': {most: number} for number in (1, 2, 4, 8, 16)}},
    backbone=_base_.backbones,
    tuning=_base_.tunings,
)
skip = _base_.refused
learning_rate = dict(values=(1e-3, 3e-3, 1e-2, 3e-2, 1e-1), seeds=(0,), metric='accuracy/top1')
seeds = (0, 1, 2, 3, 4)
table = dict(rows='tuning', columns=('backbone', 'target'), metric='accuracy/top1', digits=1, highlight='pro')
