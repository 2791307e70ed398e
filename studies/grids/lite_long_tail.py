# Long tails of CIFAR-10 with imbalance ratio 100 and 50, with the learning rates and settings of the balanced CIFAR-10.
_base_ = './lite_chosen_axes.py'

title = 'EfficientNet-Lite0, long tails'
config = '../configs/lite_long_tail.py'
axes = dict(
    target=dict(
        _delete_=True,
        cifar10_lt100={},
        cifar10_lt50={'train_dataloader.dataset.imbalance_ratio': 50},
    ),
)
