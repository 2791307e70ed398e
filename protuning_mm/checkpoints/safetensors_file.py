"""Reading and writing ``.safetensors``: tensors, and settings as text; nothing in it can run."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from protuning_mm.checkpoints.atomic import write_atomically
from protuning_mm.checkpoints.deltas.record import as_json
from protuning_mm.checkpoints.errors import CheckpointError
from protuning_mm.checkpoints.seal import SEAL, check_seal, seal_safetensors

_META = 'protuning_mm.meta'


def save_safetensors(state: Mapping[str, Tensor], meta: Mapping[str, Any], path: str | Path) -> None:
    """Write a state dict, sealed and atomically.

    Args:
        state (Mapping[str, Tensor]): Named tensors.
        meta (Mapping): What mmengine keeps under ``meta``; JSON keeps it.
        path (str | Path): The file.

    Raises:
        OSError: it cannot be written.
    """
    from safetensors.torch import save

    metadata = {'format': 'pt', SEAL: '0' * 64, _META: as_json(meta)}
    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, metadata)
    write_atomically(seal_safetensors(data), path)


def load_safetensors(path: str, device: Any = None) -> dict[str, Any]:
    """Read tensors; what :func:`save_safetensors` wrote comes back as ``dict(state_dict=…, meta=…)``.

    Raises:
        CheckpointError: the package safetensors is missing, or the file is, or it is damaged.
    """
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise CheckpointError(f'{path} needs the package safetensors to be read: pip install safetensors') from None
    if not Path(path).is_file():
        raise CheckpointError(f'checkpoint {path!r} does not exist')
    check_seal(path)
    try:
        with safe_open(path, 'pt', device='cpu' if device is None or callable(device) else str(device)) as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(
            f'{path} cannot be read as a safetensors file ({Path(path).stat().st_size} bytes): {error}. It is damaged, '
            'truncated or no such file; copy or download it again.'
        ) from None
    if _META not in metadata:
        return tensors
    return dict(state_dict=tensors, meta=json.loads(metadata[_META]))
