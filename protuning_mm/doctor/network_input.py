"""Checks that the images reach the backbone as its pre-trained weights expect them."""

from collections.abc import Sequence
from typing import Any

from protuning_mm.doctor.findings import Finding, Findings
from protuning_mm.doctor.training_setup import TrainingSetup
from protuning_mm.engine.image_size import find_training_size

_TOLERANCE = 2.0  # of 255: published figures are rounded
_KEY = 'model.data_preprocessor'


def check_network_input(setup: TrainingSetup) -> Findings:
    """Compare the normalization, the order of channels and the image size with what a network of timm was trained on.

    Only networks of timm say so. The patch size is checked for those whose patch embedding takes multiples of it alone.
    """
    plain = getattr(setup.backbone, 'plain', None)
    cfg: Any = getattr(plain, 'pretrained_cfg', None) or getattr(plain, 'default_cfg', None)
    preprocessor = getattr(setup.model, 'data_preprocessor', None)
    if not cfg or preprocessor is None or not hasattr(preprocessor, 'mean'):
        return
    name = getattr(setup.backbone, 'model_name', None) or cfg.get('architecture') or type(plain).__name__
    yield from _check_channels(preprocessor, name)
    yield from _check_normalization(preprocessor, cfg, name)
    yield from _check_patches(setup, plain, name)


def _check_channels(preprocessor: Any, name: str) -> Findings:
    # the names of this setting in mmengine and mmdet, in mmseg, and in mmpretrain
    settings = ('_channel_conversion', 'channel_conversion', 'to_rgb')
    if not any(bool(getattr(preprocessor, setting, False)) for setting in settings):
        key = 'to_rgb' if hasattr(preprocessor, 'to_rgb') else 'bgr_to_rgb'
        yield Finding(
            'warning', f'{_KEY}.{key}', f'False, but {name} of timm was trained on RGB images', f'set {_KEY}.{key}=True'
        )


def _check_normalization(preprocessor: Any, cfg: Any, name: str) -> Findings:
    for key in ('mean', 'std'):
        expected = [round(255 * value, 3) for value in cfg.get(key) or ()]
        found = getattr(preprocessor, key, None)
        values = [0.0 if key == 'mean' else 1.0] * 3 if found is None else [float(v) for v in found.flatten()]
        if len(values) == 1:
            values *= 3
        if expected and len(values) == len(expected) and _differ(values, expected):
            yield Finding(
                'warning',
                f'{_KEY}.{key}',
                f'{_format(values)}, but the weights of {name} of timm were trained with {_format(expected)}',
                f'set {_KEY}.{key}={_format(expected)}',
            )


def _differ(values: Sequence[float], expected: Sequence[float]) -> bool:
    return any(abs(a - b) > _TOLERANCE for a, b in zip(values, expected))


def _format(values: Sequence[float]) -> str:
    return '[' + ', '.join(f'{value:g}' for value in values) + ']'


def _check_patches(setup: TrainingSetup, plain: Any, name: str) -> Findings:
    embedding = getattr(plain, 'patch_embed', None)
    patch = getattr(embedding, 'patch_size', None)
    if patch is None or getattr(embedding, 'dynamic_img_pad', True):  # pads, or takes any size
        return
    height, width = (int(side) for side in (patch if isinstance(patch, Sequence) else (patch, patch)))
    size = find_training_size(setup.cfg)
    if size is not None and (size[0] % height or size[1] % width):
        yield Finding(
            'error',
            'model.backbone.backbone.dynamic_img_pad',
            f'False, but images of {size[0]}x{size[1]} pixels are no multiple of the patches of {name}, '
            f'{height}x{width}',
            'set dynamic_img_pad=True, or another image size',
        )
