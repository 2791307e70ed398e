"""Checks that the backbone is frozen and gets pre-trained weights that fit."""

from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from mmengine.runner import checkpoint as mmengine_checkpoint

from protuning_mm.backbones import TunedBackbone
from protuning_mm.doctor.findings import Finding, Findings, join_first
from protuning_mm.doctor.training_setup import TrainingSetup, find_pretrained
from protuning_mm.weights import CheckpointError, FrozenWeightsError, hub
from protuning_mm.weights.pretrained import check_frozen_tensors, read_backbone_state

_DOWNLOADED = ('timm://', hub.SCHEME)
_PRETRAINED = "dict(type='Pretrained', checkpoint='torchvision://resnet50')"


def check_frozen(setup: TrainingSetup) -> Findings:
    """Count the trained parameters of the backbone, and warn if a plain backbone is not frozen."""
    backbone = setup.backbone
    if backbone is None:
        yield Finding('info', 'model', f'{type(setup.model).__name__} has no backbone: freezing was not checked')
        return
    total = sum(param.numel() for param in backbone.parameters())
    trained = sum(param.numel() for param in backbone.parameters() if param.requires_grad)
    if isinstance(backbone, TunedBackbone):
        for key, value in backbone.ignored_args.items():
            found = f'{key}={value} has no effect: the tuning decides what is frozen'
            yield Finding('info', f'model.backbone.{key}', found)
        if not trained:
            yield Finding('info', 'model.backbone.tuning', 'linear probing: no parameter of the backbone is trained')
        return
    if trained:
        yield Finding(
            'warning',
            'model.backbone',
            f'{type(backbone).__name__} is not frozen: {trained:,} of its {total:,} parameters are trained '
            '(frozen_stages does not freeze later stages)',
            "to tune a frozen backbone: type='protuning_mm.ProTunedResNet', or a TunedBackbone that contains this one "
            '(configs/_base_/protune.py); nothing if fine-tuning is intended',
        )


def check_pretrained(setup: TrainingSetup) -> Findings:
    """Check that the checkpoint of the backbone exists, is not damaged and belongs to this network."""
    for key in setup.timm_downloads:
        yield Finding('info', key, "timm's weights will be downloaded, or taken from its cache")
    backbone, load_from = setup.backbone, setup.cfg.get('load_from')
    if load_from:
        yield from _check_file(setup, 'load_from', str(load_from), None)
    elif setup.cfg.get('resume'):
        yield Finding('info', 'resume', 'all weights will come from the latest checkpoint in the work dir')
        return
    if backbone is None:
        return
    if pretrained := find_pretrained(backbone):
        checkpoint, prefix = str(pretrained['checkpoint']), pretrained.get('prefix')
        yield from _check_file(setup, 'model.backbone.init_cfg', checkpoint, prefix)
    elif not (load_from or setup.timm_downloads or getattr(backbone, 'frozen_source', None)):
        yield from _check_random(backbone)


def _check_random(backbone: Any) -> Findings:
    where, advice = 'model.backbone.init_cfg', f'init_cfg={_PRETRAINED}, or load_from=<a whole checkpoint>'
    if not isinstance(backbone, TunedBackbone):
        frozen = any(not param.requires_grad for param in backbone.parameters())
        found = 'the backbone has random weights'
        found += ', and part of it is frozen and will stay random' if frozen else ''
        yield Finding('error' if frozen else 'warning', where, found, advice)
    elif backbone.needs_weights():
        found = 'the frozen backbone has random weights and will keep them: the config names no checkpoint'
        yield Finding('error', where, found, advice)
    elif backbone.allow_random_backbone:
        where = 'model.backbone.allow_random_backbone'
        found = 'the frozen backbone has random weights, which this setting allows'
        yield Finding('warning', where, found, f'remove the setting, and set init_cfg={_PRETRAINED}')


def _check_file(setup: TrainingSetup, where: str, checkpoint: str, prefix: str | None) -> Findings:
    try:
        url = find_download_url(checkpoint)
    except KeyError:
        yield Finding('error', where, f'{checkpoint!r}: the scheme has no such name', 'another name, or a path')
        return
    if url is not None:
        if not (Path(torch.hub.get_dir()) / 'checkpoints' / Path(urlparse(url).path).name).is_file():
            yield Finding('info', where, f'{checkpoint} will be downloaded from {url}')
            return
    elif checkpoint.startswith(_DOWNLOADED):
        yield Finding('info', where, f'{checkpoint} will be downloaded, or taken from the cache')
        return
    elif '://' not in checkpoint and not Path(checkpoint).is_file():
        yield Finding('error', where, f'{checkpoint!r}: there is no such file', 'the path of a checkpoint, or a URL')
        return
    try:
        yield from _check_fit(setup.backbone, where, checkpoint, prefix)
    except (CheckpointError, FrozenWeightsError) as error:
        yield Finding('error', where, str(error), 'a checkpoint of this network')


def _check_fit(backbone: Any, where: str, checkpoint: str, prefix: str | None) -> Findings:
    if backbone is None:
        return
    if isinstance(backbone, TunedBackbone):
        if where == 'load_from':
            state = read_backbone_state(checkpoint, prefix, backbone.plain_keys)
            check_frozen_tensors(backbone.plain_tensors(), state, checkpoint, backbone.added_children)
        else:
            backbone.init_weights()
        yield Finding('info', where, f'{checkpoint} fills all {len(backbone.plain_keys)} tensors of the backbone')
        return
    own = backbone.state_dict()
    state = read_backbone_state(checkpoint, prefix, own)
    fitting = [key for key in own if key in state and state[key].shape == own[key].shape]
    learned = [key for key in own if not key.endswith('num_batches_tracked')]
    missing = [key for key in learned if key not in fitting]
    if not missing:
        yield Finding('info', where, f'{checkpoint} fills all {len(learned)} tensors of the backbone')
    elif not getattr(backbone, 'convert_weights', False):  # Swin renames keys while it loads
        yield Finding(
            'warning' if fitting else 'error',
            where,
            f'{checkpoint} fits {len(fitting)} of the {len(own)} tensors of {type(backbone).__name__}; the others will '
            f'stay random, and training will only log that: {join_first(missing)}',
            'a checkpoint of the same depth, width and variant',
        )


def find_download_url(checkpoint: str) -> str | None:
    """Return the URL of a checkpoint that mmengine would download; None for a path or another scheme.

    Args:
        checkpoint (str): A URL, path or scheme that mmengine supports, such as ``'torchvision://resnet50'``.

    Raises:
        KeyError: the scheme has no such name.
    """
    scheme, _, name = checkpoint.partition('://')
    if scheme in ('http', 'https'):
        return checkpoint
    if scheme not in _MODEL_URLS:
        return None
    url = str(_MODEL_URLS[scheme]()[mmengine_checkpoint.get_deprecated_model_names().get(name, name)])
    return url if '://' in url else None


_MODEL_URLS = {
    'torchvision': mmengine_checkpoint.get_torchvision_models,
    'modelzoo': mmengine_checkpoint.get_torchvision_models,
    'open-mmlab': mmengine_checkpoint.get_external_models,
    'openmmlab': mmengine_checkpoint.get_external_models,
    'mmcls': mmengine_checkpoint.get_mmcls_models,
}
