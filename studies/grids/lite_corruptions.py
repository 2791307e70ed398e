# Trained on 1,000 clean images of CIFAR-10 with the learning rates and settings of lite.py, tested on clean images and
# on corrupted ones, of ImageNet-C's kinds at severity 3.
_base_ = './lite_chosen_axes.py'

title = 'EfficientNet-Lite0, corrupted test images'
axes = dict(tuning=dict(_delete_=True, **{name: _base_.tunings[name] for name in _base_.some}))
corrupted = {
    'test_dataloader.dataset': dict(
        _delete_=True,
        type='protuning_mm.Corrupted',
        corruptions=('gaussian_noise', 'defocus_blur', 'fog', 'contrast', 'pixelate'),
        severities=(3,),
        dataset=dict(
            type='protuning_mm.ImageArrays',
            data_root='data/studies/lite/cifar10',
            split='test',
            pipeline=[
                dict(type='protuning_mm.Corrupt', corruption=None, channel_order='rgb'),
                dict(type='PackInputs', meta_keys=('corruption', 'severity', 'generated')),
            ],
        ),
    ),
    'test_evaluator': [dict(type='Accuracy', topk=(1,)), dict(type='protuning_mm.CorruptionAccuracy')],
}
test = dict(clean={}, corrupted=corrupted)
