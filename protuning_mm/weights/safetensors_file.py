"""Reading and writing ``.safetensors`` files: tensors, and settings as text. They cannot contain code."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from protuning_mm.weights.atomic import write_atomically
from protuning_mm.weights.checksum import CHECKSUM_KEY, insert_checksum, verify_checksum
from protuning_mm.weights.deltas.record import to_json
from protuning_mm.weights.errors import CheckpointError

_META = 'protuning_mm.meta'
_SHARED = 'protuning_mm.shared'  # maps names of tensors to the names under which they are stored


def save_safetensors(state: Mapping[str, Tensor], meta: Mapping[str, Any], path: str | Path) -> None:
    """Write a state dict atomically and with a checksum.

    The format has no views. A tensor with several names (layers that a head shares) is stored once, and the metadata
    list its other names. Tensors that overlap in one storage without being equal are stored separately.

    Args:
        state (Mapping[str, Tensor]): Named tensors.
        meta (Mapping): The ``meta`` of mmengine's checkpoints; stored as JSON.
        path (str | Path): The file.

    Raises:
        CheckpointError: a value of the state dict is no dense tensor.
        OSError: the file cannot be written.
    """
    from safetensors.torch import save

    stored: dict[str, Tensor] = {}
    owners: dict[Any, str] = {}
    shared: dict[str, str] = {}
    storages: set[int] = set()
    for name, tensor in state.items():
        _check_dense(name, tensor, path)
        owner = owners.setdefault(_find_location(tensor) if tensor.numel() else name, name)
        if owner != name:
            shared[name] = owner
            continue
        whole = tensor.detach().cpu().contiguous()
        storage = whole.untyped_storage().data_ptr()
        stored[name] = whole.clone() if storage in storages else whole
        storages.add(storage)
    metadata = {'format': 'pt', CHECKSUM_KEY: '0' * 64, _META: to_json(meta)}
    if shared:
        metadata[_SHARED] = to_json(shared)
    write_atomically(insert_checksum(save(stored, metadata)), path)


def _find_location(tensor: Tensor) -> tuple[Any, ...]:
    """Return what identifies a tensor in memory: two names with one location are one tensor."""
    storage = tensor.untyped_storage()
    return storage.device, storage.data_ptr(), tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype


def _check_dense(name: str, value: Any, path: str | Path) -> None:
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized:
        kind = f'{value.dtype} tensor of layout {value.layout}' if isinstance(value, Tensor) else type(value).__name__
        raise CheckpointError(f'{path}: .safetensors can hold only dense tensors, but {name} is a {kind}; write a .pth')


def load_safetensors(path: str, device: Any = None) -> dict[str, Any]:
    """Read a ``.safetensors`` file.

    Args:
        path (str): The file.
        device: The device of the tensors. Defaults to None: the CPU.

    Returns:
        dict: ``dict(state_dict=…, meta=…)`` if :func:`save_safetensors` wrote the file, otherwise the tensors by name.

    Raises:
        CheckpointError: the package safetensors or the file is missing, or the file is damaged.
    """
    try:
        from safetensors import safe_open
    except ImportError:
        raise CheckpointError(f'{path}: reading it needs the package safetensors: pip install safetensors') from None
    if not Path(path).is_file():
        raise CheckpointError(f'checkpoint {path!r} does not exist')
    verify_checksum(path)
    try:
        with safe_open(path, 'pt', device='cpu' if device is None or callable(device) else str(device)) as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if _META not in metadata:
            return tensors
        shared = json.loads(metadata.get(_SHARED, '{}'))
        tensors.update({name: tensors[owner] for name, owner in shared.items()})
        return dict(state_dict=tensors, meta=json.loads(metadata[_META]))
    except Exception as error:  # a header is arbitrary text, which can fail in any way
        raise CheckpointError(
            f'{path} cannot be read as a safetensors file ({Path(path).stat().st_size} bytes): {error}. It is damaged, '
            'truncated or of another format; copy or download it again.'
        ) from None
