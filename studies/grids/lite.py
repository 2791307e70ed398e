# Every tuning that fits a convolutional network, on EfficientNet-Lite0 with ImageNet weights. Learning rate and setting
# are chosen on 800 + 200 images, six candidates for every tuning; the final runs train on all 1,000 (VTAB-1k's
# protocol) and are tested on 2,000. lite_fashion.py has another target.
title = 'EfficientNet-Lite0, CIFAR-10'
config = '../configs/lite.py'

part = 'train_dataloader.dataset'
tuning = 'model.backbone.tuning'
hidden = 'model.head.mid_channels'
stacked = dict(type='StackedLinearClsHead', num_classes=10, in_channels=1280, mid_channels=[256])
six = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
tunings = dict(
    pro={'settings': {f'ratio{ratio}': {f'{tuning}.ratio': ratio} for ratio in (0.32, 1.0)}},
    linear={tuning: dict(_delete_=True, type='linear'), 'learning_rates': six},
    mlp={
        tuning: dict(_delete_=True, type='linear'),
        'model.head': dict(_delete_=True, loss=dict(type='CrossEntropyLoss'), topk=(1,), **stacked),
        'settings': {f'hidden{width}': {hidden: [width]} for width in (256, 1024)},
    },
    full={
        tuning: dict(_delete_=True, type='full'),
        'learning_rates': (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
    },
    partial={
        tuning: dict(_delete_=True, type='partial', k=2),
        'learning_rates': (3e-4, 1e-3, 3e-3),
        'settings': {f'k{k}': {f'{tuning}.k': k} for k in (2, 4)},
    },
    bias={tuning: dict(_delete_=True, type='bias'), 'learning_rates': six},
    norm={tuning: dict(_delete_=True, type='norm'), 'learning_rates': six},
    side={
        tuning: dict(_delete_=True, type='side'),
        'settings': {f'width{width}': {f'{tuning}.width': width} for width in (16, 32)},
    },
    conv_adapter={
        tuning: dict(_delete_=True, type='conv_adapter'),
        'settings': {f'reduction{reduction}': {f'{tuning}.reduction': reduction} for reduction in (4, 16)},
    },
    lora={
        tuning: dict(_delete_=True, type='lora'),
        'settings': {f'rank{rank}': {f'{tuning}.rank': rank, f'{tuning}.alpha': rank} for rank in (4, 16)},
    },
    ssf={tuning: dict(_delete_=True, type='ssf'), 'learning_rates': six},
)
axes = dict(target=dict(cifar10={}), tuning=tunings)
learning_rate = dict(values=(1e-3, 3e-3, 1e-2), metric='accuracy/top1', options={f'{part}.part': 'train'})
seeds = (0, 1, 2)
keep_deltas = True
table = dict(rows='tuning', columns=('target',), metric='accuracy/top1', digits=1, highlight='pro')
