"""What stored features depend on: weights, network, images, pipeline and computation."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from protuning_mm.backbones.frozen_features import FrozenPart
from protuning_mm.data import DataError
from protuning_mm.data.label_counts import unwrap_data_sets
from protuning_mm.weights.fingerprint import fingerprint

# entries of a data info that name a file, such as img_path and seg_map_path
_PATH = 'path'


def identify(
    backbone: Any, part: FrozenPart, dataset: Any, settings: Mapping[str, Any], computation: Mapping[str, Any]
) -> dict[str, str]:
    """Return a digest of everything that features depend on, by what it is; equal digests mean equal features.

    Args:
        backbone (TunedBackbone): The backbone.
        part (FrozenPart): Its frozen part.
        dataset (Dataset): The built data set.
        settings (Mapping): Config of the data set with its pipeline, and of the data preprocessor.
        computation (Mapping): Batch size, device, precision and the like.

    Raises:
        DataError: the data set does not tell its samples apart.
    """
    frozen = backbone.frozen_tensors()
    return dict(
        weights=fingerprint(frozen).total[:32],
        network=_digest([describe_network(backbone), str(part), part.names]),
        images=identify_images(dataset),
        pipeline=_digest(settings),
        computation=_digest(dict(computation, torch=torch.__version__)),
    )


def read_settings(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run's config says about the images: the cached data set with its pipeline, and the preprocessor."""
    node: Any = cfg.get('train_dataloader')
    while isinstance(node, Mapping) and str(node.get('type')).rpartition('.')[2] != 'CachedSamples':
        node = node.get('dataset')
    model = cfg.get('model')
    return dict(
        dataset=node if isinstance(node, Mapping) else None,
        data_preprocessor=cfg.get('data_preprocessor'),
        model_data_preprocessor=model.get('data_preprocessor') if isinstance(model, Mapping) else None,
    )


def describe_network(backbone: Any) -> list[Any]:
    """Return what the forward of the plain backbone depends on besides its tensors."""
    plain: nn.Module = backbone.plain
    added = backbone.added_children
    modules = [
        (path, type(module).__name__, module.extra_repr())
        for path, module in plain.named_modules()
        if path.partition('.')[0] not in added
    ]
    values = sorted((key, repr(value)) for key, value in vars(plain).items() if isinstance(value, str | int | float))
    return [type(plain).__name__, modules, values, backbone.structure.outs, str(backbone.efficient_frozen)]


def identify_images(dataset: Any) -> str:
    """Return a digest of the samples of a data set: what it tells of each, and size and time of each file.

    Raises:
        DataError: the data set has no ``get_data_info``.
    """
    if not hasattr(dataset, 'get_data_info'):
        raise DataError(
            f'cache_features: {type(dataset).__name__} has no get_data_info, so the images of stored features cannot '
            'be recognised; use a data set of the host libraries, or train without cache_features'
        )
    found = hashlib.sha256(str(len(dataset)).encode())
    for i in range(len(dataset)):
        info = dataset.get_data_info(i)
        found.update(_to_text(info).encode())
        for key, value in sorted(info.items()):
            if key.endswith(_PATH) and isinstance(value, str):
                found.update(_file_state(value).encode())
    for each in unwrap_data_sets(dataset):
        for path in getattr(each, 'source_files', ()):
            found.update(_file_state(path).encode())
    return found.hexdigest()[:32]


def _file_state(path: str | Path) -> str:
    try:
        found = Path(path).stat()
    except OSError:  # not a local file
        return str(path)
    return f'{path} {found.st_size} {found.st_mtime_ns}'


def _digest(value: Any) -> str:
    return hashlib.sha256(_to_text(value).encode()).hexdigest()[:32]


def _to_text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=_plain)


def _plain(value: Any) -> Any:
    """Return something that JSON can hold, for a value that it cannot hold."""
    if isinstance(value, np.ndarray):
        return [value.dtype.str, value.shape, hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()]
    if isinstance(value, np.generic):
        return value.item()
    return f'{value.__module__}.{value.__qualname__}' if isinstance(value, type) else str(value)
