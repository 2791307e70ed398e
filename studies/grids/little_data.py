# Few images per class: which tuning needs the least data? The wrapper has one seed, so larger sets contain smaller.
_base_ = './axes.py'

title = 'Little data: 1 to 16 pictures a class'
config = '../configs/base.py'
most = 'train_dataloader.dataset.max_per_class'
axes = dict(
    backbone=_base_.backbones,
    shots={str(number): {most: number} for number in (1, 2, 4, 8, 16)},
    tuning=_base_.compared,
)
skip = _base_.refused_of_compared
learning_rate = dict(values=(3e-3, 1e-2, 3e-2, 1e-1), seeds=(0,), metric='accuracy/top1')
seeds = (0, 1, 2)
table = dict(rows='tuning', columns=('backbone', 'shots'), metric='accuracy/top1', digits=1, highlight='pro')
