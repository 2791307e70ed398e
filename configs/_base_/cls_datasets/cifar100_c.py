# Trained on CIFAR-100, tested on CIFAR-100-C: 15 corruptions at 5 severities. If its files are missing, the clean
# test set is corrupted on the fly, with stronger corruptions; the log and the metric say so.
_base_ = './cifar100.py'

test_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='protuning_mm.CIFAR100C',
        data_root='data/cifar100/CIFAR-100-C',
        clean=_base_.test_dataloader.dataset,
        pipeline=[
            _base_.resize,
            dict(type='PackInputs', meta_keys=('sample_idx', 'corruption', 'severity', 'generated')),
        ],
    )
)
test_evaluator = [dict(type='Accuracy', topk=(1,)), dict(type='protuning_mm.CorruptionAccuracy')]
