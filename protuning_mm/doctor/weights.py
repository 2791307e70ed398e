"""Is the backbone frozen, and does it get pre-trained weights that fit?"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from mmengine.runner import checkpoint as mmengine_checkpoint

from protuning_mm.backbones import TunedBackbone
from protuning_mm.doctor.case import Case
from protuning_mm.doctor.findings import Finding, Findings, first_few
from protuning_mm.weights import CheckpointError, FrozenWeightsError
from protuning_mm.weights.pretrained import check_frozen_tensors, read_backbone_state

_PRETRAINED = "dict(type='Pretrained', checkpoint='torchvision://resnet50')"


def check_frozen(case: Case) -> Findings:
    """How much of the backbone is trained, and whether that is meant."""
    backbone = case.backbone
    if backbone is None:
        yield Finding('info', 'model', f'{type(case.model).__name__} has no backbone: freezing was not examined')
        return
    total = sum(param.numel() for param in backbone.parameters())
    trained = sum(param.numel() for param in backbone.parameters() if param.requires_grad)
    if isinstance(backbone, TunedBackbone):
        for key, value in backbone.ignored_args.items():
            yield Finding('info', f'model.backbone.{key}', f'{key}={value} has no effect: the tuning owns freezing')
        if not trained:
            yield Finding('info', 'model.backbone.tuning', 'linear probing: the backbone has nothing that is trained')
        return
    if trained:
        yield Finding(
            'warning',
            'model.backbone',
            f'{type(backbone).__name__} is not frozen: {trained:,} of its {total:,} parameters are trained '
            '(frozen_stages leaves later stages trained)',
            "to tune a frozen one: type='protuning_mm.ProTunedResNet', or TunedBackbone around it "
            '(configs/_base_/protune.py); nothing if fine-tuning is meant',
        )


def check_pretrained(case: Case) -> Findings:
    """Where the backbone's weights come from, and whether that file is here, whole and of this network."""
    for key in case.timm_downloads:
        yield Finding('info', key, "timm's weights will be downloaded, or taken from its cache")
    backbone, load_from = case.backbone, case.cfg.get('load_from')
    if load_from:
        yield from _examine(case, 'load_from', str(load_from), None)
    elif case.cfg.get('resume'):
        yield Finding('info', 'resume', 'every weight comes from the latest checkpoint of the work dir')
        return
    if backbone is None:
        return
    named = _named_file(backbone)
    if named is not None:
        yield from _examine(case, 'model.backbone.init_cfg', *named)
    elif not (load_from or case.timm_downloads or getattr(backbone, 'frozen_source', None)):
        yield from _random(backbone)


def _random(backbone: Any) -> Findings:
    where = 'model.backbone.init_cfg'
    if not isinstance(backbone, TunedBackbone):
        frozen = [param for param in backbone.parameters() if not param.requires_grad]
        yield Finding(
            'error' if frozen else 'warning',
            where,
            'the backbone starts at random' + (', and part of it is frozen: nothing will train that' if frozen else ''),
            f'init_cfg={_PRETRAINED}, or load_from=<a whole checkpoint>',
        )
    elif backbone.needs_weights():
        yield Finding(
            'error',
            where,
            'the frozen backbone is random: no file is named, and nothing will train it',
            f'init_cfg={_PRETRAINED}, or load_from=<a whole checkpoint>',
        )
    elif backbone.allow_random_backbone:
        yield Finding(
            'warning',
            'model.backbone.allow_random_backbone',
            'the frozen backbone is random, and that is allowed',
            f'leave it out, with init_cfg={_PRETRAINED}',
        )


def _named_file(backbone: Any) -> tuple[str, str | None] | None:
    cfgs = getattr(backbone, 'init_cfg', None)
    for cfg in cfgs if isinstance(cfgs, list | tuple) else [cfgs]:
        if isinstance(cfg, Mapping) and cfg.get('type') == 'Pretrained':
            return str(cfg['checkpoint']), cfg.get('prefix')
    return None


def _examine(case: Case, where: str, checkpoint: str, prefix: str | None) -> Findings:
    try:
        url = url_of(checkpoint)
    except KeyError:
        yield Finding('error', where, f'{checkpoint!r} is no name that its scheme knows', 'a known name, or a path')
        return
    if url is not None and not cached(url).is_file():
        yield Finding('info', where, f'{checkpoint} is not here yet: it will be downloaded from {url}')
        return
    if url is None and '://' not in checkpoint and not Path(checkpoint).is_file():
        yield Finding('error', where, f'{checkpoint!r}: there is no such file', 'the path of a checkpoint, or a URL')
        return
    try:
        yield from _fits(case.backbone, where, checkpoint, prefix)
    except (CheckpointError, FrozenWeightsError) as error:
        found, _, advice = str(error).partition('\nA frozen backbone')
        yield Finding('error', where, found, f'a checkpoint of this network{advice and ": a frozen backbone" + advice}')


def _fits(backbone: Any, where: str, checkpoint: str, prefix: str | None) -> Findings:
    if backbone is None:
        return
    if isinstance(backbone, TunedBackbone):
        if where == 'load_from':
            added = [name for name, _ in backbone.named_children() if name not in backbone.plain_children]
            state = read_backbone_state(checkpoint, prefix, backbone.plain_keys)
            check_frozen_tensors(backbone.plain_tensors(), state, source=checkpoint, added=added)
        else:
            backbone.init_weights()
        yield Finding('info', where, f'{checkpoint} fills all {len(backbone.plain_keys)} tensors of the backbone')
        return
    own = backbone.state_dict()
    state = read_backbone_state(checkpoint, prefix, own)
    fitting = [key for key in own if key in state and state[key].shape == own[key].shape]
    learned = [key for key in own if not key.endswith('num_batches_tracked')]
    absent = [key for key in learned if key not in fitting]
    if not absent:
        yield Finding('info', where, f'{checkpoint} fills all {len(learned)} tensors of the backbone')
    elif not getattr(backbone, 'convert_weights', False):  # Swin renames keys while it loads
        yield Finding(
            'warning' if fitting else 'error',
            where,
            f'{checkpoint} fits {len(fitting)} of the {len(own)} tensors of {type(backbone).__name__}; the host will '
            f'only log the others, and they stay random: {first_few(absent)}',
            'a checkpoint of the same depth, width and variant',
        )


def url_of(checkpoint: str) -> str | None:
    """The URL behind a checkpoint in mmengine's words; None for what is no download.

    Raises:
        KeyError: its scheme knows no such name.
    """
    scheme, _, name = checkpoint.partition('://')
    if scheme in ('http', 'https'):
        return checkpoint
    if scheme in ('torchvision', 'modelzoo'):
        return str(mmengine_checkpoint.get_torchvision_models()[name])
    if scheme in ('open-mmlab', 'openmmlab'):
        name = mmengine_checkpoint.get_deprecated_model_names().get(name, name)
        url = str(mmengine_checkpoint.get_external_models()[name])
        return url if '://' in url else None
    if scheme == 'mmcls':
        return str(mmengine_checkpoint.get_mmcls_models()[name])
    return None


def cached(url: str) -> Path:
    """Where torch keeps the download of a URL."""
    return Path(torch.hub.get_dir()) / 'checkpoints' / Path(urlparse(url).path).name
