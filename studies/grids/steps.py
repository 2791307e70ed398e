# Are there too few steps? The headline's schedule, a quarter of it, and four times as many steps; each learning rate is
# chosen anew. Steps of the ViT take long, so its grid only asks whether full fine-tuning needs more steps.
_base_ = './axes.py'

title = 'Short and long schedules'
config = '../configs/base.py'
axes = dict(
    backbone=_base_.backbones,
    schedule={
        str(steps): {
            'train_cfg.max_iters': steps,
            'train_cfg.val_interval': steps,
            'param_scheduler.1.end': steps,
        }
        for steps in (50, 200, 800)
    },
    tuning={
        **{name: _base_.tunings[name] for name in ('pro', 'linear', 'partial', 'lora', 'conv_adapter')},
        'full': {**_base_.tunings['full'], 'learning_rates': _base_.ladder[:6]},
    },
)
skip = [
    dict(backbone='vit', schedule='50', why='on the ViT only the longer schedule is of interest'),
    dict(backbone='vit', tuning=('linear', 'partial'), why='a step of the ViT takes long'),
    dict(backbone='vit', tuning='conv_adapter', why=_base_.refused[2]['why']),
]
learning_rate = dict(values=(1e-3, 3e-3, 1e-2, 3e-2, 1e-1), seeds=(0,), metric='accuracy/top1')
seeds = (0, 1, 2)
table = dict(rows='tuning', columns=('backbone', 'schedule'), metric='accuracy/top1', digits=1, highlight='pro')
