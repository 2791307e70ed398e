# As lite_development.py, on a long tail: 320 images of the first class, 3 of the last; 800 validate and 1,000 test.
_base_ = './lite_development.py'

fifth = dict(type='protuning_mm.HeldOut', fraction=0.2)
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='protuning_mm.LongTailed',
        imbalance_ratio=100,
        max_per_class=320,
        dataset=dict(**fifth, part='train', dataset=dict(**fifth, part='train', dataset={{_base_.train_arrays}})),
    ),
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True, **fifth, part='held_out', dataset=dict(**fifth, part='train', dataset={{_base_.test_arrays}})
    ),
)
test_dataloader = dict(dataset=dict(_delete_=True, **fifth, part='held_out', dataset={{_base_.test_arrays}}))
