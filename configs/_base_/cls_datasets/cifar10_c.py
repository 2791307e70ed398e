# Trained on CIFAR-10, tested on CIFAR-10-C: 15 corruptions at 5 severities. If its files are missing, the clean
# test set is corrupted on the fly, with stronger corruptions; the log and the metric say so.
_base_ = './cifar10.py'

test_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='protuning_mm.CIFAR10C',
        data_root='data/cifar10/CIFAR-10-C',
        clean=_base_.test_dataloader.dataset,
        pipeline=[
            _base_.resize,
            dict(type='PackInputs', meta_keys=('sample_idx', 'corruption', 'severity', 'generated')),
        ],
    )
)
test_evaluator = [dict(type='Accuracy', topk=(1,)), dict(type='protuning_mm.CorruptionAccuracy')]
