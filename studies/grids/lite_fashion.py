# Fashion-MNIST on EfficientNet-Lite0, VTAB-1k's protocol: settings as on CIFAR-10, and three learning rates around the
# one that was best there.
_base_ = './lite_chosen_axes.py'

title = 'EfficientNet-Lite0, Fashion-MNIST'
data = 'data/studies/lite/fashion'
part = 'train_dataloader.dataset'
axes = dict(
    target=dict(
        _delete_=True,
        fashion={
            f'{part}.dataset.dataset.data_root': data,
            'val_dataloader.dataset.dataset.dataset.data_root': data,
            'test_dataloader.dataset.data_root': data,
        },
    ),
    tuning=dict(
        _delete_=True,
        **{
            name: {**tuning, 'learning_rates': tuple(factor * tuning['learning_rates'][0] for factor in (1 / 3, 1, 3))}
            for name, tuning in _base_.tunings.items()
        },
    ),
)
keep_deltas = True
