# Long-tailed CIFAR-10 (Cui et al., CVPR 2019), 100 to 1; another ratio by train_dataloader.dataset.imbalance_ratio.
# The test set is CIFAR-10's own, balanced.
_base_ = './cifar10.py'

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
