"""Adapts the optimizer constructors of mmengine and the hosts to models with tuned backbones.

All constructors of the hosts inherit from mmengine's and call its ``__call__``, which is wrapped here:

- A tuned backbone is replaced by its plain backbone, such as a ``ConvNeXt``, because constructors for layer-wise
  learning rates call the plain backbone's ``get_layer_depth``. Added parameters count as the last layer, which has the
  full learning rate, because they are as close to the loss as a head.
- A learning rate that ``custom_keys`` sets for the whole backbone, such as ``{'backbone': dict(lr_mult=0.1)}``, does
  not apply to added parameters: it is meant for pre-trained weights, including those that a tuning trains. A key that
  names added parameters (``'backbone.prompts'``, ``'prompts'``) does apply to them. Weight decay is not affected.
"""

import copy
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from mmengine.logging import print_log
from torch import nn

from protuning_mm.backbones import TunedBackbone, tuned_backbones


def build_for_host(build: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap an optimizer constructor, so that it gets plain backbones instead of tuned ones."""

    @functools.wraps(build)
    def build_with_plain_backbones(self: Any, model: nn.Module) -> Any:
        model = getattr(model, 'module', model)
        keys = (self.paramwise_cfg or {}).get('custom_keys') or {}
        added = {
            name: dict(keys[general], lr_mult=1.0) if own is None else dict(keys[own])
            for name, general, own in _matched_by_backbone(model, keys)
        }
        if added:
            self.paramwise_cfg = {**self.paramwise_cfg, 'custom_keys': {**keys, **added}}
        for key, names in spared(model, keys).items():
            print_log(
                f'custom_keys[{key!r}] is meant for pre-trained weights: the {len(names)} parameters that the tuning '
                f'added ({names[0]}, …) get the full learning rate. To change it, add a key that names them',
                'current',
            )
        return build(self, with_plain_backbones(model))

    return build_with_plain_backbones


def with_plain_backbones(model: nn.Module) -> nn.Module:
    """Return a view of a model with the same parameters and names, but with plain instead of tuned backbones."""
    if isinstance(model, TunedBackbone):
        return _as_plain(model)
    if not tuned_backbones(model):
        return model
    view = copy.copy(model)
    view._modules = {
        name: child if child is None else with_plain_backbones(child) for name, child in model._modules.items()
    }
    return view


def _as_plain(backbone: TunedBackbone) -> nn.Module:
    plain = copy.copy(backbone.plain)
    depth_of: Any = getattr(plain, 'get_layer_depth', None)
    if depth_of is None:
        return plain
    added = tuple(f'{child}.' for child in backbone.added_children)
    of_plain = next(key for key, _ in plain.named_parameters() if not key.startswith(added))

    def get_layer_depth(param_name: str, prefix: str = '') -> tuple[int, int]:
        if param_name.startswith(prefix) and param_name[len(prefix) :].startswith(added):
            number = depth_of(prefix + of_plain, prefix)[1]
            return number - 1, number
        depth: tuple[int, int] = depth_of(param_name, prefix)
        return depth

    object.__setattr__(plain, 'get_layer_depth', get_layer_depth)
    return plain


def spared(model: nn.Module, custom_keys: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """For each key that names a whole backbone, return the added parameters that its ``lr_mult`` does not apply to."""
    found: dict[str, list[str]] = {}
    for name, general, own in _matched_by_backbone(model, custom_keys):
        if own is None and custom_keys[general].get('lr_mult', 1.0) != 1.0:
            found.setdefault(general, []).append(name)
    return found


def _matched_by_backbone(model: nn.Module, custom_keys: Iterable[str]) -> Iterator[tuple[str, str, str | None]]:
    """Find the added parameters to which mmengine would apply a key of the whole backbone.

    Yields:
        tuple: Name of the parameter, the key of the backbone, and the key that names the parameter, if there is one.
    """
    keys = sorted(sorted(custom_keys), key=len, reverse=True)  # mmengine's order
    for name, backbone in _added(model):
        matching = [key for key in keys if key in name]
        own = [key for key in matching if key not in f'{backbone}.']
        if matching and matching[0] not in own:
            yield name, matching[0], own[0] if own else None


def _added(model: nn.Module) -> list[tuple[str, str]]:
    """Return the full name of each trained parameter that a tuning added, with its backbone's name."""
    return [
        (f'{name}.{child}.{key}' if name else f'{child}.{key}', name)
        for name, backbone in tuned_backbones(model).items()
        for child in backbone.added_children
        for key, param in backbone._modules[child].named_parameters()
        if param.requires_grad
    ]
