# As lite.py, for choices about the method itself. Of the 5,000 cached training images, 800 train, 200 choose the
# learning rate, and the other 4,000 compare; the test images are not touched.
_base_ = './lite.py'

data = 'data/studies/lite/cifar10'
train_arrays = dict(type='protuning_mm.ImageArrays', data_root=data, pipeline={{_base_.train_pipeline}})
test_arrays = dict(type='protuning_mm.ImageArrays', data_root=data, pipeline={{_base_.test_pipeline}})
rest = dict(type='protuning_mm.HeldOut', fraction=0.8)
searched = dict(type='protuning_mm.HeldOut', fraction=0.2)
train_dataloader = dict(
    dataset=dict(_delete_=True, **searched, part='train', dataset=dict(**rest, part='train', dataset=train_arrays)),
)
val_dataloader = dict(
    dataset=dict(_delete_=True, **searched, part='held_out', dataset=dict(**rest, part='train', dataset=test_arrays)),
)
test_dataloader = dict(dataset=dict(_delete_=True, **rest, part='held_out', dataset=test_arrays))
