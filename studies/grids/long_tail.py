# A milder long tail than the headline's, imbalance ratio 50; the rest is the headline's, but for three seeds.
_base_ = './headline.py'

title = 'Long tail, imbalance ratio 50'
axes = dict(target=dict(_delete_=True, digits_lt50=_base_.targets['digits_lt50']))
seeds = (0, 1, 2)
