# Variants of the prompt block on EfficientNet-Lite0, one change at a time, on images that are not the test images.
title = 'EfficientNet-Lite0: variants of the prompt block'
config = '../configs/lite_development.py'

block = 'model.backbone.tuning'
data = 'data/studies/lite/fashion'
part = 'train_dataloader.dataset'
fixed_blocks = dict(_delete_=True, type='pro_variant', prompt_stages=(1, 2, 3, 4))
blocks = dict(**fixed_blocks, relative=True)
multipliers = 'optim_wrapper.paramwise_cfg'
axes = dict(
    target=dict(
        cifar10={},
        fashion={
            f'{part}.dataset.dataset.data_root': data,
            'val_dataloader.dataset.dataset.dataset.data_root': data,
            'test_dataloader.dataset.dataset.data_root': data,
        },
        cifar10_lt100=dict(config='../configs/lite_development_long_tail.py'),
    ),
    block={
        # kernel 5, ratio 0.32, one group norm, GELU, last convolution zero, relative, stages 1 to 4
        'default': {},
        'fixed': {f'{block}.relative': False},
        'relative_channels': {block: dict(fixed_blocks, block='relative_channels')},
        'norm_none': {f'{block}.norm_cfg': None},
        'norm_bn': {f'{block}.norm_cfg': dict(type='BN')},
        'norm_ln': {block: dict(blocks, block='layer_norm')},
        'act_none': {f'{block}.act_cfg': None},
        'act_relu': {f'{block}.act_cfg': dict(type='ReLU')},
        'ratio_0.16': {f'{block}.ratio': 0.16},
        'ratio_0.64': {f'{block}.ratio': 0.64},
        'ratio_1': {f'{block}.ratio': 1.0},
        'kernel_1': {f'{block}.kernel_size': 1},
        'kernel_3': {f'{block}.kernel_size': 3},
        'kernel_7': {f'{block}.kernel_size': 7},
        'kernels_3_7': {block: dict(blocks, block='two_kernels')},
        'scale_scalar': {block: dict(blocks, block='scalar')},
        'scale_channels': {f'{block}.init': 'zero_scale'},
        'stages_0_to_4': {f'{block}.prompt_stages': [0, 1, 2, 3, 4]},
        'stages_2_to_4': {f'{block}.prompt_stages': [2, 3, 4]},
        'stages_3_4': {f'{block}.prompt_stages': [3, 4]},
        'grouped': {block: dict(fixed_blocks, block='grouped')},
        'grouped_norms': {block: dict(fixed_blocks, block='grouped_norms')},
        'head_rate_third': {multipliers: dict(custom_keys=dict(head=dict(lr_mult=1 / 3)))},
        'head_rate_tenth': {multipliers: dict(custom_keys=dict(head=dict(lr_mult=0.1)))},
        'decay_0': {'optim_wrapper.optimizer.weight_decay': 0.0},
        'decay_0.1': {'optim_wrapper.optimizer.weight_decay': 0.1},
    },
)
learning_rate = dict(values=(1e-3, 3e-3), metric='accuracy/top1')
table = dict(rows='block', columns=('target',), metric='accuracy/top1', digits=1, highlight='default')
