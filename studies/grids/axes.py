# What the studies share: settings that override studies/configs/base.py. A study inherits them by _base_ = './axes.py'.

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
        'model.neck': None,  # the head reads the class token
        'model.head.in_channels': 64,
    },
)

# Each target trains on a part of the same hundred images per class; val and test are balanced.
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

# Tunings use their own defaults, except for widths: our backbones have an eighth of the channels of the papers'.
tuning = 'model.backbone.tuning'
# Tunings with few trained parameters need large learning rates, and full fine-tuning needs small ones, so each uses a
# part of the same ladder. If validation chose a rate at the edge of a part, we extended the part.
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

# the tunings that the smaller studies compare; for each backbone, one of them changes the blocks
compared = {
    name: tunings[name] for name in ('pro', 'linear', 'full', 'partial', 'bias', 'side', 'adapter', 'conv_adapter')
}
refused_of_compared = [
    dict(backbone='resnet', tuning='adapter', why=refused[0]['why']),
    dict(backbone='vit', tuning='conv_adapter', why=refused[2]['why']),
]
