"""Helpers for tests of deltas: a small classifier with a base file, its delta and its whole checkpoint."""

from pathlib import Path
from typing import Any

from torch import nn

from protuning_mm import TunedBackbone
from protuning_mm.weights.deltas import make_delta
from protuning_mm.weights.fingerprint import fingerprint
from protuning_mm.weights.write import write_checkpoint
from tests.plain import SMALL, fill, snapshot
from tests.tiny import TinyClassifier

META = dict(classes=('cat', 'dog', 'bird'), palette=[(1, 2, 3), (4, 5, 6), (7, 8, 9)])


def classifier(base: str | None, tuning: Any = 'pro', num_classes: int = 3, **resnet: Any) -> TinyClassifier:
    """A classifier whose backbone is loaded from ``base``; without a base, its frozen tensors are random."""
    init_cfg = dict(type='Pretrained', checkpoint=base) if base else None
    settings = dict(type='ResNet', depth=18, **SMALL) | resnet
    backbone = TunedBackbone(settings, tuning, host='mmdet', init_cfg=init_cfg)
    if base:
        backbone.init_weights()
    return TinyClassifier(backbone, num_classes)


def trained(base: str, tuning: Any = 'pro', seed: int = 5, **kwargs: Any) -> TinyClassifier:
    """A classifier whose trained parameters have values that no initialisation gives."""
    model = classifier(base, tuning, **kwargs)
    before = snapshot(model.backbone)
    fill(model, seed)
    for key, tensor in model.backbone.frozen_tensors().items():
        tensor.copy_(before[key])
    return model


def checkpoint_of(model: nn.Module) -> dict[str, Any]:
    """The checkpoint that a runner would save."""
    return dict(state_dict=model.state_dict(), meta=dict(epoch=1, iter=2, dataset_meta=META))


def save_delta(model: TinyClassifier, path: Path) -> Path:
    content = checkpoint_of(model)
    make_delta(content, {'backbone': model.backbone}, {'backbone': fingerprint(model.backbone.frozen_tensors())})
    write_checkpoint(content, path)
    return path
