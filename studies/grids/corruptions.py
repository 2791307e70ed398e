# Trained on clean digits, tested on clean and on corrupted ones.
_base_ = './axes.py'

title = 'Corrupted test sets'
config = '../configs/base.py'
axes = dict(
    backbone=_base_.backbones,
    tuning=_base_.compared,
)
skip = _base_.refused_of_compared
learning_rate = dict(values=(3e-3, 1e-2, 3e-2, 1e-1), seeds=(0,), metric='accuracy/top1')
seeds = (0, 1, 2)
corrupted = {
    'test_dataloader.dataset': dict(
        _delete_=True,
        type='protuning_mm.Corrupted',
        corruptions=('gaussian_noise', 'defocus_blur', 'fog', 'contrast', 'pixelate'),
        severities=(3,),
        dataset=dict(
            type='CustomDataset',
            data_root='data/studies/digits',
            data_prefix='test',
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='protuning_mm.Corrupt', corruption=None),
                dict(type='PackInputs', meta_keys=('corruption', 'severity', 'generated')),
            ],
        ),
    ),
    'test_evaluator': [
        dict(type='Accuracy', topk=(1,)),
        dict(type='protuning_mm.CorruptionAccuracy'),
    ],
}
test = dict(clean={}, corrupted=corrupted)
table = dict(rows='tuning', columns=('backbone',), metric='accuracy/top1', digits=1, highlight='pro')
