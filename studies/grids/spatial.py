# Is it the depth-wise convolution that helps where Pro-Tuning gains most? Only the kernel changes, on the ViT.
_base_ = './axes.py'

title = 'Pro-Tuning: the depth-wise kernel on a ViT'
config = '../configs/base.py'
block = 'model.backbone.tuning'
axes = dict(
    target={name: _base_.targets[name] for name in ('digits', 'textures')},
    backbone={'vit': _base_.backbones['vit']},
    block={
        'default': {},  # kernel 5
        'kernel_1': {f'{block}.kernel_size': 1},
        'kernel_3': {f'{block}.kernel_size': 3},
        'kernel_7': {f'{block}.kernel_size': 7},
        # no spatial convolution, and more parameters than the default: 32 hidden channels instead of 24
        'bottleneck_same_size': {f'{block}.kernel_size': 1, f'{block}.ratio': 0.5},
    },
)
learning_rate = dict(values=(1e-2, 3e-2, 1e-1), seeds=(0,), metric='accuracy/top1')
seeds = (0, 1, 2)
table = dict(rows='block', columns=('backbone', 'target'), metric='accuracy/top1', digits=1, highlight='default')
