# A tenth of CIFAR-10's training images is held out for validation, to choose a learning rate. The test set is only used
# at the end.
_base_ = './r50_protune_cifar10.py'

whole = _base_.train_dataloader.dataset
held_out = dict(whole, pipeline=_base_.test_pipeline)
train_dataloader = dict(dataset=dict(_delete_=True, type='protuning_mm.HeldOut', part='train', dataset=whole))
val_dataloader = dict(dataset=dict(_delete_=True, type='protuning_mm.HeldOut', part='held_out', dataset=held_out))
