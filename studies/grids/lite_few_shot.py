# Few images per class of CIFAR-10 on EfficientNet-Lite0, with the learning rates and settings of 100 images per class.
# The wrapper has one seed, so larger sets contain smaller ones.
_base_ = './lite_chosen_axes.py'

title = 'EfficientNet-Lite0, 1 to 16 images per class'
config = '../configs/lite_few_shot.py'
shots = 'train_dataloader.dataset.shots'
axes = dict(
    target=dict(_delete_=True, **{f'shots_{number}': {shots: number} for number in (1, 2, 4, 8, 16)}),
    tuning=dict(_delete_=True, **{name: _base_.tunings[name] for name in _base_.some}),
)
