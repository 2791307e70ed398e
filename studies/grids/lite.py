# Every tuning that fits a convolutional network, on EfficientNet-Lite0 with ImageNet's weights. The learning rate is
# chosen on 800 + 200 images; the final runs train on all 1,000 (VTAB-1k's protocol) and are tested on 2,000.
title = 'EfficientNet-Lite0, published images'
config = '../configs/lite.py'

part = 'train_dataloader.dataset'
tuning = 'model.backbone.tuning'
data = 'data/studies/lite'
targets = dict(
    cifar10={},
    fashion={
        f'{part}.dataset.dataset.data_root': f'{data}/fashion',
        'val_dataloader.dataset.dataset.dataset.data_root': f'{data}/fashion',
        'test_dataloader.dataset.data_root': f'{data}/fashion',
    },
)
tunings = dict(
    pro={},
    linear={tuning: dict(_delete_=True, type='linear')},
    full={tuning: dict(_delete_=True, type='full'), 'learning_rates': (1e-4, 3e-4, 1e-3)},
    partial={tuning: dict(_delete_=True, type='partial', k=2), 'learning_rates': (3e-4, 1e-3, 3e-3)},
    bias={tuning: dict(_delete_=True, type='bias')},
    norm={tuning: dict(_delete_=True, type='norm')},
    side={tuning: dict(_delete_=True, type='side')},
    conv_adapter={tuning: dict(_delete_=True, type='conv_adapter')},
    lora={tuning: dict(_delete_=True, type='lora')},
    ssf={tuning: dict(_delete_=True, type='ssf')},
)
axes = dict(target=targets, tuning=tunings)
learning_rate = dict(values=(1e-3, 3e-3, 1e-2), metric='accuracy/top1', options={f'{part}.part': 'train'})
seeds = (0, 1, 2)
table = dict(rows='tuning', columns=('target',), metric='accuracy/top1', digits=1, highlight='pro')
