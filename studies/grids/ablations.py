# Which settings of the prompt block help: one change at a time, the defaults in the first row.
_base_ = './axes.py'

title = 'Pro-Tuning: what of the prompt block helps'
config = '../configs/base.py'
block = 'model.backbone.tuning'
axes = dict(
    target={name: _base_.targets[name] for name in ('digits', 'digits_lt100')},
    backbone={'resnet': _base_.backbones['resnet']},
    block={
        'default': {},  # kernel 5, ratio 0.32, one group norm, GELU, last convolution zero
        'kernel_1': {f'{block}.kernel_size': 1},
        'kernel_3': {f'{block}.kernel_size': 3},
        'kernel_7': {f'{block}.kernel_size': 7},
        # a bottleneck without spatial convolution, with at least as many parameters: does the 5x5 convolution help?
        'bottleneck_same_size': {f'{block}.kernel_size': 1, f'{block}.ratio': 0.38},
        'ratio_0.16': {f'{block}.ratio': 0.16},
        'ratio_0.64': {f'{block}.ratio': 0.64},
        'ratio_1': {f'{block}.ratio': 1.0},
        'stage_1': {f'{block}.prompt_stages': [0]},
        'stage_4': {f'{block}.prompt_stages': [3]},
        'stages_1_2': {f'{block}.prompt_stages': [0, 1]},
        'stages_3_4': {f'{block}.prompt_stages': [2, 3]},
        'norm_none': {f'{block}.norm_cfg': None},
        'norm_bn': {f'{block}.norm_cfg': dict(type='BN')},
        'norm_in': {f'{block}.norm_cfg': dict(type='IN', affine=True)},
        'norm_gn_8': {f'{block}.norm_cfg': dict(type='GN', num_groups=8)},
        'act_relu': {f'{block}.act_cfg': dict(type='ReLU')},
        'act_none': {f'{block}.act_cfg': None},
        'init_zero_scale': {f'{block}.init': 'zero_scale'},
        'init_random': {f'{block}.init': 'random'},
    },
)
learning_rate = dict(values=(3e-3, 1e-2, 3e-2, 1e-1), seeds=(0,), metric='accuracy/top1')
seeds = (0, 1, 2)
table = dict(rows='block', columns=('backbone', 'target'), metric='accuracy/top1', digits=1, highlight='default')
