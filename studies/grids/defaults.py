# Norm and activation of the prompt block: the candidates for its defaults.
_base_ = './axes.py'

title = 'Pro-Tuning: settings of the prompt block, before and after'
config = '../configs/base.py'
block = 'model.backbone.tuning'
gelu = dict(type='GELU')
axes = dict(
    target={name: _base_.targets[name] for name in ('digits', 'digits_lt100', 'textures')},
    backbone=_base_.backbones,
    block={
        # written out, so that the rows do not depend on the package's defaults
        'gn1_relu': {f'{block}.norm_cfg': dict(type='GN', num_groups=1), f'{block}.act_cfg': dict(type='ReLU')},
        'gn1_gelu': {f'{block}.norm_cfg': dict(type='GN', num_groups=1), f'{block}.act_cfg': gelu},
        'gn8_relu': {f'{block}.norm_cfg': dict(type='GN', num_groups=8), f'{block}.act_cfg': dict(type='ReLU')},
        'gn8_gelu': {f'{block}.norm_cfg': dict(type='GN', num_groups=8), f'{block}.act_cfg': gelu},
        'bn_gelu': {f'{block}.norm_cfg': dict(type='BN'), f'{block}.act_cfg': gelu},
        'in_gelu': {f'{block}.norm_cfg': dict(type='IN', affine=True), f'{block}.act_cfg': gelu},
    },
)
learning_rate = dict(values=(3e-3, 1e-2, 3e-2), seeds=(0,), metric='accuracy/top1')
seeds = (0, 1, 2)
table = dict(rows='block', columns=('backbone', 'target'), metric='accuracy/top1', digits=1, highlight='gn1_gelu')
