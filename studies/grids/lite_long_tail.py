# The tunings of lite.py on long tails of CIFAR-10 with imbalance ratio 100 and 50. The validation images are in none of
# the training sets, so the runs of the search are also runs of the table.
_base_ = './lite.py'

title = 'EfficientNet-Lite0, long tails'
config = '../configs/lite_long_tail.py'
axes = dict(
    target=dict(
        _delete_=True,
        cifar10_lt100={},
        cifar10_lt50={'train_dataloader.dataset.imbalance_ratio': 50},
    ),
    tuning=_base_.tunings,
)
learning_rate = dict(_delete_=True, values=(1e-3, 3e-3, 1e-2), metric='accuracy/top1')
