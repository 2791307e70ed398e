# The headline: every tuning on three targets and two backbones. Its results are in work_dirs/studies/headline.
_base_ = './axes.py'

title = 'Every tuning, three targets, two backbones'
config = '../configs/base.py'
axes = dict(
    target={name: _base_.targets[name] for name in ('digits', 'digits_lt100', 'textures')},
    backbone=_base_.backbones,
    tuning=_base_.tunings,
)
skip = _base_.refused
learning_rate = dict(values=(3e-3, 1e-2, 3e-2, 1e-1), seeds=(0,), metric='accuracy/top1')
seeds = (0, 1, 2, 3, 4)
table = dict(
    rows='tuning', columns=('backbone', 'target'), metric='accuracy/top1', scale=1.0, digits=1, highlight='pro'
)
