# What the studies have in common, laid over studies/configs/base.py; a study takes it by _base_ = './axes.py'.

sources = 'work_dirs/studies/sources'
backbones = dict(
    resnet={'model.backbone.init_cfg.checkpoint': f'{sources}/resnet.pth'},
    vit={
        'model.backbone.init_cfg.checkpoint': f'{sources}/vit.pth',
        'model.backbone.backbone': dict(
            _delete_=True,
            type='VisionTransformer',
            arch=dict(embed_dims=64, num_layers=6, num_heads=4, feedforward_channels=128),
            img_size=32,
            patch_size=4,
        ),
        'model.neck': None,  # the class token goes to the head
        'model.head.in_channels': 64,
    },
)

# To train on, a target takes its part of the same hundred pictures a class; val and test are balanced.
part = 'train_dataloader.dataset'
texture_data = 'data/studies/textures'
targets = dict(
    digits={},
    digits_lt50={f'{part}.imbalance_ratio': 50, f'{part}.max_per_class': 100},
    digits_lt100={f'{part}.imbalance_ratio': 100, f'{part}.max_per_class': 100},
    textures={
        'model.backbone.init_cfg.prefix': 'digits.',
        'model.head.num_classes': 12,
        'model.data_preprocessor.num_classes': 12,
        f'{part}.dataset.data_root': texture_data,
        'val_dataloader.dataset.data_root': texture_data,
        'test_dataloader.dataset.data_root': texture_data,
    },
)

# With their own defaults, save widths that go with a backbone: ours are an eighth as wide as those of the papers.
tuning = 'model.backbone.tuning'
# What has few parameters to train wants large steps, and full fine-tuning small ones: each has its part of one ladder.
# Where validation data put the best of four at an edge, the part was made longer there.
ladder = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
tunings = dict(
    pro={},
    linear={tuning: dict(_delete_=True, type='linear'), 'learning_rates': ladder[3:]},
    full={tuning: dict(_delete_=True, type='full'), 'learning_rates': ladder[:5]},
    partial={tuning: dict(_delete_=True, type='partial', k=1), 'learning_rates': ladder[1:6]},
    bias={tuning: dict(_delete_=True, type='bias'), 'learning_rates': ladder[3:7]},
    norm={tuning: dict(_delete_=True, type='norm'), 'learning_rates': ladder[3:7]},
    side={tuning: dict(_delete_=True, type='side', width=8), 'learning_rates': ladder[2:]},
    adapter={tuning: dict(_delete_=True, type='adapter'), 'learning_rates': ladder[1:6]},
    adaptformer={tuning: dict(_delete_=True, type='adaptformer', hidden=16)},
    conv_adapter={tuning: dict(_delete_=True, type='conv_adapter')},
    vpt={tuning: dict(_delete_=True, type='vpt'), 'learning_rates': ladder[3:]},
    lora={tuning: dict(_delete_=True, type='lora')},
    ssf={tuning: dict(_delete_=True, type='ssf'), 'learning_rates': ladder[2:7]},
)
refused = [
    dict(backbone='resnet', tuning=('adapter', 'adaptformer'), why='a residual block has no attention and MLP'),
    dict(backbone='resnet', tuning='vpt', why='a convolutional network has no sequence of tokens'),
    dict(backbone='vit', tuning='conv_adapter', why='a transformer layer has no spatial convolution'),
]

# the half of them that the smaller studies compare, a tuning of the blocks for each backbone among them
compared = {
    name: tunings[name] for name in ('pro', 'linear', 'full', 'partial', 'bias', 'side', 'adapter', 'conv_adapter')
}
refused_of_compared = [
    dict(backbone='resnet', tuning='adapter', why=refused[0]['why']),
    dict(backbone='vit', tuning='conv_adapter', why=refused[2]['why']),
]
