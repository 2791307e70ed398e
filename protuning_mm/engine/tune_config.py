"""Puts a tuning into a config of the hosts: a frozen backbone, and the optimizer and hooks that go with it."""

import copy
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import yaml
from mmengine.config import Config

from protuning_mm.engine.errors import ConfigError
from protuning_mm.registry import TUNINGS

TUNED = 'TunedBackbone'
_TUNED_RESNET = 'ProTunedResNet'
_CONSTRUCTOR = 'protuning_mm.TrainableOptimWrapperConstructor'
_HOOKS = {
    'checkpoint': 'protuning_mm.CheckpointHook',
    'tuning': 'protuning_mm.TuningHook',
    'audit': 'protuning_mm.FrozenAuditHook',
    'resume': 'protuning_mm.ExactResumeHook',
}
# keys of a model's config under which the hosts keep a network that computes features of an image
BACKBONE_KEYS = ('backbone', 'vision_backbone', 'image_encoder', 'vision_encoder', 'visual_encoder')


def parse_tuning(text: str) -> Any:
    """Parse what follows ``--tune``: ``pro``, ``{type: lora, rank: 8}`` or a list of both.

    Raises:
        ConfigError: the text is no YAML, or a tuning is unknown.
    """
    try:
        tuning = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"--tune {text}: {str(error).splitlines()[0]}; write a name, such as pro, or '{{type: lora, rank: 8}}'"
        ) from None
    check_tuning(tuning, f'--tune {text}')
    return tuning


def check_tuning(tuning: Any, where: str) -> None:
    """Check the names of one or several tunings.

    Raises:
        ConfigError: a tuning has no name or an unknown one.
    """
    for each in (tuning or [None]) if isinstance(tuning, list | tuple) else [tuning]:
        name = each.get('type') if isinstance(each, Mapping) else each
        if isinstance(name, str) and TUNINGS.get(name) is None:
            known = ', '.join(sorted(TUNINGS.module_dict))
            raise ConfigError(f'{where}: there is no tuning {name!r}; the tunings are {known}')
        if not name or not isinstance(name, str | type):
            raise ConfigError(
                f'{where}: write a name, such as pro, or a dict with a type, such as {{type: lora, rank: 8}}'
            )


def tune_config(cfg: Config, tuning: Any = 'pro') -> Config:
    """Return a copy of a config whose backbones are frozen and tuned.

    Each backbone becomes the ``backbone`` of a :class:`~protuning_mm.TunedBackbone`, with its own settings and weights.
    If the config's backbone is tuned already, its tuning is replaced. The config also gets the optimizer constructor
    and the hooks of ``configs/_base_/protune.py``; other hooks, and constructors with rates of their own, stay.

    Args:
        cfg (Config): A config of mmdet, mmseg or mmpretrain.
        tuning (str | dict | list): One or several tunings, as ``TunedBackbone`` takes them. Defaults to ``'pro'``.

    Raises:
        ConfigError: the tuning is unknown, or the config's model has no backbone.
    """
    check_tuning(tuning, f'tuning={tuning!r}')
    content = copy.deepcopy(cfg.to_dict())
    found = list(_find_backbones(content.get('model') or {}))
    if not found:
        raise ConfigError(
            f'{cfg.filename or "the config"}: its model has no backbone to tune; looked for '
            f'{", ".join(BACKBONE_KEYS)} in {_describe(content.get("model"))}'
        )
    for holder, name in found:
        holder[name] = _tuned(holder[name], copy.deepcopy(tuning))
    _add_import(content)
    _add_constructor(content)
    _add_hooks(content)
    # the runner names the config that it writes after the file, which Config reads
    return Config(content, filename=cfg.filename if cfg.filename and Path(cfg.filename).is_file() else None)


def _find_backbones(node: Any) -> Iterator[tuple[Any, Any]]:
    """Yield holder and key of each backbone in a model's config, except those of a teacher, which is not trained."""
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for name, value in list(items):
        if name in BACKBONE_KEYS and isinstance(value, Mapping) and 'type' in value:
            yield node, name
        elif name in BACKBONE_KEYS and isinstance(value, Mapping | list):
            # several backbones; but a list of image encoders is a backbone and what follows it
            parts = list(value.items() if isinstance(value, Mapping) else enumerate(value))
            parts = parts[:1] if name == 'image_encoder' and isinstance(value, list) else parts
            yield from ((value, i) for i, part in parts if isinstance(part, Mapping) and 'type' in part)
        elif not str(name).startswith('teacher'):
            yield from _find_backbones(value)


def _tuned(backbone: Mapping[str, Any], tuning: Any) -> dict[str, Any]:
    if _name(backbone['type']) in (TUNED, _TUNED_RESNET):
        rest = {key: value for key, value in backbone.items() if key not in ('prompt_stages', 'prompt')}
        return rest | dict(tuning=tuning)
    return dict(type=f'protuning_mm.{TUNED}', backbone=backbone, tuning=tuning)


def _name(kind: Any) -> str:
    """Return the name of a type, which is a class in configs of the new style."""
    return str(kind if isinstance(kind, str) else kind.__name__).rpartition('.')[2]


def _add_import(content: MutableMapping[str, Any]) -> None:
    found = dict(content.get('custom_imports') or dict(imports=[], allow_failed_imports=False))
    names = found['imports']
    names = [names] if isinstance(names, str) else list(names)
    content['custom_imports'] = found | dict(imports=list(dict.fromkeys([*names, 'protuning_mm'])))


def _add_constructor(content: MutableMapping[str, Any]) -> None:
    wrapper = content.get('optim_wrapper')
    if wrapper and _name(wrapper.get('constructor') or 'DefaultOptimWrapperConstructor').startswith('Default'):
        wrapper['constructor'] = _CONSTRUCTOR


def _add_hooks(content: MutableMapping[str, Any]) -> None:
    hooks = content.setdefault('default_hooks', {})
    for name, kind in _HOOKS.items():
        own = hooks.get(name)
        if own is None:
            hooks[name] = dict(type=kind)
        elif _name(own.get('type', 'CheckpointHook')) == 'CheckpointHook':
            own['type'] = kind


def _describe(model: Any) -> str:
    return f'{_name(model["type"])}' if isinstance(model, Mapping) and 'type' in model else 'no model'
