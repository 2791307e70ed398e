"""The size of training images in a config: finding it, and changing it everywhere."""

import copy
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from protuning_mm.engine.errors import ConfigError

# arguments of transforms that give an image size, in the order in which they are looked for
_SIZE_KEYS = ('crop_size', 'scale', 'scales', 'size')
_MORE_SIZE_KEYS = ('img_scale', 'img_scales', 'pad_size', 'random_size_range', 'border')
_TRANSFORMS = ('Resize', 'Crop', 'Pad', 'Mosaic', 'MixUp', 'RandomAffine', 'RandomChoice')
_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
_MULTIPLE = 32  # pixels: the largest stride of the hosts' backbones


def find_training_size(cfg: Any) -> tuple[int, int] | None:
    """Return height and width of training images: the preprocessor's size, else the last size in the pipeline.

    Of several sizes in one transform, the largest is taken.
    """
    preprocessor = cfg.model.get('data_preprocessor') or {}
    size = preprocessor.get('size')
    if size is not None:
        return int(size[0]), int(size[1])
    dataset = (cfg.get('train_dataloader') or {}).get('dataset') or {}
    while isinstance(dataset.get('dataset'), dict) and not dataset.get('pipeline'):
        dataset = dataset['dataset']
    found = None
    for transform in _walk(dataset.get('pipeline') or ()):  # also those that RandomChoice holds
        for key in _SIZE_KEYS:
            value = transform.get(key)
            if value is None or not any(word in str(transform.get('type')) for word in ('Resize', 'Crop', 'Pad')):
                continue
            found = _parse_size(value, str(transform['type']), key) or found
    divisor = preprocessor.get('pad_size_divisor', 1)
    return (-found[0] // divisor * -divisor, -found[1] // divisor * -divisor) if found else None


def _parse_size(value: Any, transform: str, key: str) -> tuple[int, int] | None:
    if isinstance(value, int):
        return value, value
    if value and isinstance(value[0], list | tuple):
        value = max(value, key=lambda pair: pair[0] * pair[1])
    if len(value) != 2 or not all(isinstance(side, int) for side in value):
        return None
    a, b = value
    # the hosts give `scale` as (width, height), and crop sizes as (height, width)
    return (b, a) if 'Resize' in transform and key.startswith('scale') and 'Crop' not in transform else (a, b)


def set_image_side(cfg: Config, side: int) -> Config:
    """Return a copy of a config whose training images have another size.

    All sizes in the pipelines and in the data preprocessor are multiplied by one factor, so that the images keep their
    proportions. Sizes that are multiples of 64 pixels stay such; others become multiples of 32.

    Args:
        cfg (Config): A config of mmdet, mmseg or mmpretrain.
        side (int): The longer side of the training images in pixels.

    Raises:
        ConfigError: the side is no whole number of at least 32, or the config's own size is not known.
    """
    if not isinstance(side, int) or side < _MULTIPLE:
        raise ConfigError(f'image_side={side!r} must be a whole number of pixels, {_MULTIPLE} or more')
    old = find_training_size(cfg)
    if old is None:
        raise ConfigError(
            f'image_side={side}: the size of the training images is not found in {cfg.filename or "the config"}: its '
            'train pipeline has no transform that resizes, crops or pads to a size. Set the sizes in the pipelines'
        )
    content = copy.deepcopy(cfg.to_dict())
    factor = side / max(old)
    for transform in _transforms(content):
        for key in (*_SIZE_KEYS, *_MORE_SIZE_KEYS):
            if key in transform:
                transform[key] = _scaled(transform[key], factor)
    for part in (content['model'], content):
        preprocessor = part.get('data_preprocessor') or {}
        for holder in (preprocessor, *(preprocessor.get('batch_augments') or ())):
            for key in ('size', 'random_size_range'):
                if holder.get(key):
                    holder[key] = _scaled(holder[key], factor)
    test = content['model'].get('test_cfg') or {}
    for key in ('crop_size', 'stride'):  # of mmseg's sliding window
        if isinstance(test.get(key), list | tuple):
            test[key] = _scaled(test[key], factor)
    return Config(content, filename=cfg.filename if cfg.filename and Path(cfg.filename).is_file() else None)


def _transforms(content: MutableMapping[str, Any]) -> Iterator[MutableMapping[str, Any]]:
    """Yield the transforms of all pipelines: of loaders, of hooks that exchange them, and of augmented tests."""
    hooks = [hook for hook in content.get('custom_hooks') or () if 'switch_pipeline' in hook]
    yield from _walk([*(content.get(name) for name in _LOADERS), *hooks, content.get('tta_pipeline')])


def _walk(node: Any) -> Iterator[MutableMapping[str, Any]]:
    if isinstance(node, MutableMapping):
        if any(word in str(node.get('type')) for word in _TRANSFORMS):
            yield node
        for value in node.values():
            yield from _walk(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _walk(value)


def _scaled(value: Any, factor: float) -> Any:
    """Multiply sizes in pixels; fractions, and -1 for "as large as needed", stay."""
    if isinstance(value, list | tuple):
        return type(value)(_scaled(each, factor) for each in value)
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) < _MULTIPLE / 2:
        return value
    multiple = 2 * _MULTIPLE if value % (2 * _MULTIPLE) == 0 else _MULTIPLE  # some pyramids have a stride of 64
    if value < 0:  # a border, half of a size
        return _scaled(-2 * value, factor) // -2
    return max(1, round(value * factor / multiple)) * multiple
