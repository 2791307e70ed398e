# As lite.py, on a long tail of CIFAR-10: 400 images of the first class. Validation on 1,000 others, balanced.
_base_ = './lite.py'

balanced = dict(type='protuning_mm.HeldOut', fraction=0.2)
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='protuning_mm.LongTailed',
        imbalance_ratio=100,
        max_per_class=400,
        dataset=dict(
            **balanced,
            part='train',
            dataset=dict(
                type='protuning_mm.ImageArrays',
                data_root='data/studies/lite/cifar10',
                pipeline={{_base_.train_pipeline}},
            ),
        ),
    ),
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        **balanced,
        part='held_out',
        dataset=dict(
            type='protuning_mm.ImageArrays',
            data_root='data/studies/lite/cifar10',
            pipeline={{_base_.test_pipeline}},
        ),
    ),
)
