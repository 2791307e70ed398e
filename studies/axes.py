"""The axes that the studies share: backbones, targets and tunings, as settings that override studies/configs/base.py."""

from typing import Any

Options = dict[str, Any]

SOURCES = 'work_dirs/studies/sources'
_CHECKPOINT = 'model.backbone.init_cfg.checkpoint'

BACKBONES: dict[str, Options] = {
    'resnet': {_CHECKPOINT: f'{SOURCES}/resnet.pth'},
    'vit': {
        _CHECKPOINT: f'{SOURCES}/vit.pth',
        'model.backbone.backbone': dict(
            _delete_=True,
            type='VisionTransformer',
            arch=dict(embed_dims=96, num_layers=6, num_heads=4, feedforward_channels=192),
            img_size=32,
            patch_size=4,
        ),
        'model.neck': None,  # the class token goes to the head
        'model.head.in_channels': 96,
    },
}
