"""The frozen tensors and layers that tasks share: one object for each, however many tasks use it."""

import weakref
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from protuning_mm.backbones import TunedBackbone
from protuning_mm.frozen.block_structure import MARKS
from protuning_mm.multitask.errors import MultiTaskError

_UNUSED = 'num_batches_tracked'  # unused in eval mode; some files do not contain it


class SharedBase:
    """The frozen tensors of several tasks (their base), with the layers that the tasks share.

    It holds weak references, so each of them stays in memory as long as a task uses it.

    Args:
        source (str): The checkpoint of the base's first task.
    """

    def __init__(self, source: str) -> None:
        self.tensors: weakref.WeakValueDictionary[str, Tensor] = weakref.WeakValueDictionary()
        self.layers: weakref.WeakValueDictionary[str, nn.Module] = weakref.WeakValueDictionary()
        self.keys: frozenset[str] = frozenset()
        self.source = source

    def copy_values_to(self, backbone: TunedBackbone) -> None:
        """Copy the shared values into a new backbone where shapes match, so that a delta need not read its base's file.

        The backbone keeps its own tensors, because a checkpoint that is loaded later must not change the shared ones.
        """
        with torch.no_grad():
            for key, tensor in backbone.plain_tensors().items():
                shared = self.tensors.get(key)
                if shared is not None and shared.shape == tensor.shape and shared.dtype == tensor.dtype:
                    tensor.copy_(shared)

    def find_difference(self, backbone: TunedBackbone) -> str | None:
        """Return how a backbone's frozen tensors differ from the shared ones; None if they are equal."""
        shared = dict(self.tensors)
        own = {key: tensor for key, tensor, _, _ in _frozen_tensors(backbone) if key in backbone.plain_keys}
        if not shared or not own:
            return None
        # tensors that exist only for dense tasks, and may differ between tasks
        optional = tuple(backbone.structure.optional_keys)
        if extra := sorted(key for key in backbone.plain_keys - self.keys if not key.startswith(optional)):
            return f'another architecture: it has {extra[0]}, which the shared base does not have'
        for key in own.keys() & shared.keys():
            if shared[key].shape != own[key].shape or shared[key].dtype != own[key].dtype:
                return (
                    f'another architecture: {key} is {_describe(own[key])}, '
                    f'in the shared base it is {_describe(shared[key])}'
                )
        for key in own:
            compared = key in shared and not key.endswith(_UNUSED) and not key.startswith(optional)
            if compared and not torch.equal(shared[key], own[key]):
                return f'other weights: the first tensor that differs is {key}'
        return None

    def share_with(self, backbone: TunedBackbone) -> None:
        """Replace the backbone's own tensors and layers by equal shared ones, and share those that are new.

        Sharing layers saves memory too: a module takes 2 to 3 KB, and a ResNet-50 has 150.
        """
        for key, tensor, table, name in _frozen_tensors(backbone):
            shared = self.tensors.get(key)
            if shared is None:
                self.tensors[key] = tensor
            elif shared.shape == tensor.shape and shared.dtype == tensor.dtype and torch.equal(shared, tensor):
                table[name] = shared
        for path, layer, children in _layers_of_blocks(backbone):
            known = self.layers.setdefault(path, layer)
            if known is not layer and _can_replace(known, layer):
                children[path.rpartition('.')[2]] = known
        self.keys |= backbone.plain_keys


def tuned_backbone_of(name: str, model: nn.Module) -> TunedBackbone:
    """Return the tuned backbone of a task's model.

    Raises:
        MultiTaskError: the model's backbone is not a TunedBackbone.
    """
    backbone = getattr(model, 'backbone', None)
    if not isinstance(backbone, TunedBackbone):
        raise MultiTaskError(
            f'task {name!r}: the backbone is a {type(backbone).__name__}, which is trained whole and shares nothing; '
            'it must be a protuning_mm.TunedBackbone or ProTunedResNet'
        )
    return backbone


def _layers_of_blocks(backbone: TunedBackbone) -> Iterator[tuple[str, nn.Module, dict[str, nn.Module | None]]]:
    """Yield path, module and table of each module without children in the frozen blocks."""
    for block in backbone.structure.blocks:
        for path, parent in backbone.plain.get_submodule(block.path).named_modules(prefix=block.path):
            for name, layer in parent.named_children():
                if not layer._modules:
                    yield f'{path}.{name}', layer, parent._modules


def _can_replace(layer: nn.Module, other: nn.Module) -> bool:
    """Return whether two layers have the same settings and the same tensor objects, and the first one has no hooks."""
    if type(layer) is not type(other) or any(table for name, table in vars(layer).items() if name.endswith('_hooks')):
        return False
    mine, others = ({k: v for k, v in vars(each).items() if k not in MARKS} for each in (layer, other))
    for kind in ('_parameters', '_buffers'):
        held, theirs = mine.pop(kind), others.pop(kind)
        if held.keys() != theirs.keys() or any(held[key] is not theirs[key] for key in held):
            return False
    return type(mine.pop('forward', None)) is type(others.pop('forward', None)) and mine == others


def _describe(tensor: Tensor) -> str:
    return f'{tuple(tensor.shape)} {str(tensor.dtype).removeprefix("torch.")}'


def _frozen_tensors(backbone: TunedBackbone) -> Iterator[tuple[str, Tensor, dict[str, Tensor | None], str]]:
    """Yield key, tensor, table and name in the table of each frozen tensor, also of buffers outside state dicts."""
    trained = backbone.plain_keys - backbone.frozen_keys
    added = backbone.added_children
    for path, module in backbone.plain.named_modules(remove_duplicate=False):
        if path.split('.')[0] in added:
            continue
        tables: tuple[dict[str, Tensor | None], ...] = (module._parameters, module._buffers)
        for table in tables:
            for name, tensor in list(table.items()):
                key = f'{path}.{name}' if path else name
                if tensor is not None and key not in trained:
                    yield key, tensor, table, name
