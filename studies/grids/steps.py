# Too few steps? The headline's schedule, a quarter of it and four times as much; each learning rate chosen anew.
_base_ = './axes.py'

title = 'Short and long schedules'
config = '../configs/base.py'
axes = dict(
    backbone={'resnet': _base_.backbones['resnet']},
    steps={
        str(steps): {
            'train_cfg.max_iters': steps,
            'train_cfg.val_interval': steps,
            'param_scheduler.1.end': steps,
        }
        for steps in (50, 200, 800)
    },
    tuning={name: _base_.tunings[name] for name in ('pro', 'full', 'linear', 'partial', 'lora', 'conv_adapter')},
)
learning_rate = dict(values=(1e-3, 3e-3, 1e-2, 3e-2, 1e-1), seeds=(0,), metric='accuracy/top1')
seeds = (0, 1, 2)
table = dict(rows='tuning', columns=('backbone', 'steps'), metric='accuracy/top1', digits=1, highlight='pro')
