# Long-tailed CIFAR-100 (Cui et al., CVPR 2019), imbalance ratio 100; train_dataloader.dataset.imbalance_ratio
# sets another. The test set is CIFAR-100's balanced one.
_base_ = './cifar100.py'

train_dataloader = dict(
    dataset=dict(
        _delete_=True, type='protuning_mm.LongTailed', imbalance_ratio=100, dataset=_base_.train_dataloader.dataset
    )
)
val_evaluator = [
    dict(type='Accuracy', topk=(1,)),
    dict(type='protuning_mm.MeanClassAccuracy'),
    dict(type='protuning_mm.ShotGroups'),
]
test_evaluator = val_evaluator
