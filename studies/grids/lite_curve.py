# Accuracy against trained parameters on CIFAR-10: four tunings at several sizes, at the learning rates of lite.py.
_base_ = './lite_chosen_axes.py'

title = 'EfficientNet-Lite0, CIFAR-10: sizes of the tunings'
tuning = 'model.backbone.tuning'
chosen_tunings = _base_.tunings
pro_sizes = {f'pro-ratio{ratio}': {f'{tuning}.ratio': ratio} for ratio in (0.08, 0.16, 0.32, 0.64, 1.0)}
lora_sizes = {f'lora-rank{rank}': {f'{tuning}.rank': rank, f'{tuning}.alpha': rank} for rank in (1, 2, 4, 8, 16, 32)}
adapter_sizes = {f'conv_adapter-reduction{by}': {f'{tuning}.reduction': by} for by in (64, 32, 16, 8, 4)}
axes = dict(
    target=dict(_delete_=True, cifar10={}),
    tuning=dict(
        _delete_=True,
        **{name: {**chosen_tunings['pro'], **size} for name, size in pro_sizes.items()},
        **{name: {**chosen_tunings['lora'], **size} for name, size in lora_sizes.items()},
        **{name: {**chosen_tunings['conv_adapter'], **size} for name, size in adapter_sizes.items()},
        ssf=chosen_tunings['ssf'],
    ),
)
table = dict(highlight='pro-ratio1.0')
