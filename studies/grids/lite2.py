# The headline on the larger EfficientNet-Lite2: seven tunings on CIFAR-10, each with learning rates around that of
# EfficientNet-Lite0.
_base_ = './lite_chosen_axes.py'

title = 'EfficientNet-Lite2, CIFAR-10'
config = '../configs/lite2.py'
axes = dict(
    target=dict(_delete_=True, cifar10={}),
    tuning=dict(
        _delete_=True,
        **{
            name: {
                **_base_.tunings[name],
                'learning_rates': tuple(factor * _base_.tunings[name]['learning_rates'][0] for factor in (1 / 3, 1, 3)),
            }
            for name in _base_.some
        },
    ),
)
