"""The resident base: every frozen tensor and layer once, whatever number of tasks use it."""

import weakref
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from protuning_mm.backbones import TunedBackbone
from protuning_mm.frozen.block_structure import MARKS
from protuning_mm.multitask.errors import MultiTaskError

_IDLE = 'num_batches_tracked'  # eval mode does not look at it, and files may lack it


class ResidentBase:
    """Frozen tensors by name. It holds them as long as a task does, and no longer.

    Args:
        source (str): The checkpoint of the first task, which brought it.
    """

    def __init__(self, source: str) -> None:
        self.tensors: weakref.WeakValueDictionary[str, Tensor] = weakref.WeakValueDictionary()
        self.layers: weakref.WeakValueDictionary[str, nn.Module] = weakref.WeakValueDictionary()
        self.keys: frozenset[str] = frozenset()
        self.source = source

    def prime(self, backbone: TunedBackbone) -> None:
        """Copy the resident values into a new backbone, where they fit: a delta of this base then opens no other file.

        It is a copy, because what is loaded after it must not reach what others use.
        """
        with torch.no_grad():
            for key, tensor in backbone.plain_tensors().items():
                resident = self.tensors.get(key)
                if resident is not None and resident.shape == tensor.shape and resident.dtype == tensor.dtype:
                    tensor.copy_(resident)

    def misfit(self, backbone: TunedBackbone) -> str | None:
        """Why a backbone's frozen tensors are not these; None where they are."""
        here, there = dict(self.tensors), _frozen(backbone)
        if not here or not there:
            return None
        if strange := sorted(key for key in backbone.plain_keys - self.keys if not key.startswith(_made_for(backbone))):
            return f'another architecture: it has {strange[0]}, which the resident one has not'
        for key in there.keys() & here.keys():
            if here[key].shape != there[key].shape or here[key].dtype != there[key].dtype:
                return f'another architecture: {key} is {_kind(there[key])} there, {_kind(here[key])} here'
        for key, tensor in there.items():
            if key.endswith(_IDLE) or key.startswith(_made_for(backbone)) or key not in here:
                continue
            if not torch.equal(here[key], tensor):
                return f'other weights: the first tensor that differs is {key}'
        return None

    def holds(self, backbone: TunedBackbone) -> bool:
        """Whether a backbone shares these tensors."""
        return any(self.tensors.get(key) is tensor for key, tensor, _, _ in _places(backbone))

    def share(self, backbone: TunedBackbone) -> None:
        """Put the resident tensors in the place of the backbone's own, and keep what is new.

        Layers that are the same in all are shared as modules too: a module is 2 to 3 KB, and a ResNet-50 has 150.
        """
        for key, tensor, table, name in _places(backbone):
            resident = self.tensors.get(key)
            if resident is None:
                self.tensors[key] = tensor
            elif resident.shape == tensor.shape and resident.dtype == tensor.dtype and torch.equal(resident, tensor):
                table[name] = resident
        for path, layer, children in _layers(backbone):
            shared = self.layers.setdefault(path, layer)
            if shared is not layer and _alike(shared, layer):
                children[path.rpartition('.')[2]] = shared
        self.keys |= backbone.plain_keys


def distinct_bytes(tensors: Iterator[Tensor]) -> int:
    """Bytes of the distinct storages under some tensors."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def check_tuned(name: str, model: nn.Module) -> TunedBackbone:
    """The tuned backbone of a task's model.

    Raises:
        MultiTaskError: its backbone is none.
    """
    backbone = getattr(model, 'backbone', None)
    if not isinstance(backbone, TunedBackbone):
        raise MultiTaskError(
            f'task {name!r}: the backbone is a {type(backbone).__name__}, which is trained whole and shares nothing; '
            'it must be a protuning_mm.TunedBackbone or ProTunedResNet'
        )
    return backbone


def _layers(backbone: TunedBackbone) -> Iterator[tuple[str, nn.Module, dict[str, nn.Module | None]]]:
    """Each module in the frozen blocks that holds no other, and where it stands."""
    for block in backbone.structure.blocks:
        for path, parent in backbone.plain.get_submodule(block.path).named_modules(prefix=block.path):
            for name, layer in parent.named_children():
                if not layer._modules:
                    yield f'{path}.{name}', layer, parent._modules


def _alike(one: nn.Module, other: nn.Module) -> bool:
    """Whether a layer may stand for another: of the same settings, with the very same tensors, and nothing hooked."""
    if type(one) is not type(other) or any(table for name, table in vars(one).items() if name.endswith('_hooks')):
        return False
    mine, others = ({k: v for k, v in vars(layer).items() if k not in MARKS} for layer in (one, other))
    for kind in ('_parameters', '_buffers'):
        held, theirs = mine.pop(kind), others.pop(kind)
        if held.keys() != theirs.keys() or any(held[key] is not theirs[key] for key in held):
            return False
    return type(mine.pop('forward', None)) is type(others.pop('forward', None)) and mine == others


def _made_for(backbone: TunedBackbone) -> tuple[str, ...]:
    """Beginnings of the keys of tensors that are made for a dense task's outputs; another task may have others."""
    return tuple(backbone.structure.optional_keys)


def _kind(tensor: Tensor) -> str:
    return f'{tuple(tensor.shape)} {str(tensor.dtype).removeprefix("torch.")}'


def _frozen(backbone: TunedBackbone) -> dict[str, Tensor]:
    return {key: tensor for key, tensor, _, _ in _places(backbone) if key in backbone.plain_keys}


def _places(backbone: TunedBackbone) -> Iterator[tuple[str, Tensor, dict[str, Tensor | None], str]]:
    """Each frozen tensor, where it stands, and buffers that no state dict holds."""
    kept = backbone.plain_keys - backbone.frozen_keys
    added = set(backbone._modules) - backbone.plain_children
    for path, module in backbone.plain.named_modules(remove_duplicate=False):
        if path.split('.')[0] in added:
            continue
        tables: tuple[dict[str, Tensor | None], ...] = (module._parameters, module._buffers)
        for table in tables:
            for name, tensor in list(table.items()):
                key = f'{path}.{name}' if path else name
                if tensor is not None and key not in kept:
                    yield key, tensor, table, name
