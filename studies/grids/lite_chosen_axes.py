# The tunings of lite.py, each with the learning rate and the setting that lite.py chose for it on CIFAR-10
# (docs/evidence/lite.csv). Other targets use these without a search of their own, or search around them.
_base_ = './lite.py'

chosen = dict(
    pro=(1e-2, 'ratio1.0'),
    linear=(1e-3, None),
    mlp=(3e-3, 'hidden256'),
    full=(3e-4, None),
    partial=(3e-4, 'k4'),
    bias=(3e-3, None),
    norm=(3e-3, None),
    side=(3e-3, 'width16'),
    conv_adapter=(1e-3, 'reduction16'),
    lora=(1e-3, 'rank16'),
    ssf=(3e-4, None),
)
tunings = dict(
    _delete_=True,
    **{
        name: {
            **{key: value for key, value in _base_.tunings[name].items() if key not in ('settings', 'learning_rates')},
            **(_base_.tunings[name]['settings'][setting] if setting else {}),
            'learning_rates': (rate,),
        }
        for name, (rate, setting) in chosen.items()
    },
)
axes = dict(target=dict(_delete_=True, cifar10={}), tuning=tunings)
some = ('pro', 'linear', 'full', 'bias', 'norm', 'conv_adapter', 'lora')
keep_deltas = False
