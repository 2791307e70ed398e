# Tuning beside the network: ladder on CIFAR-10, searched as pro in lite.py. Rates and settings are chosen likewise.
_base_ = './lite.py'

title = 'EfficientNet-Lite0, CIFAR-10: a ladder of prompt blocks'
tuning = 'model.backbone.tuning'
axes = dict(
    tuning=dict(
        _delete_=True,
        ladder={
            tuning: dict(_delete_=True, type='ladder'),
            'settings': {f'ratio{ratio}': {f'{tuning}.ratio': ratio} for ratio in (0.32, 1.0)},
        },
    )
)
keep_deltas = False
table = dict(highlight='ladder')
