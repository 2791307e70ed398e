# A milder long tail than the headline's: imbalance ratio 50, every tuning, three seeds.
_base_ = './axes.py'

title = 'Long tail, imbalance ratio 50'
config = '../configs/base.py'
axes = dict(
    target={'digits_lt50': _base_.targets['digits_lt50']},
    backbone=_base_.backbones,
    tuning=_base_.tunings,
)
skip = _base_.refused
learning_rate = dict(values=(3e-3, 1e-2, 3e-2, 1e-1), seeds=(0,), metric='accuracy/top1')
seeds = (0, 1, 2)
table = dict(rows='tuning', columns=('backbone', 'target'), metric='accuracy/top1', digits=1, highlight='pro')
