"""Writing a checkpoint by its name's ending: sealed, and whole or not at all."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from protuning_mm.version import __version__
from protuning_mm.weights.atomic import write_atomically
from protuning_mm.weights.checksum import SEALED_BY, append_checksum
from protuning_mm.weights.errors import CheckpointError
from protuning_mm.weights.safetensors_file import save_safetensors


def write_checkpoint(checkpoint: Mapping[str, Any], path: str | Path) -> None:
    """Write ``dict(state_dict=…, meta=…, …)``.

    Args:
        checkpoint (Mapping): What mmengine's checkpoints hold.
        path (str | Path): ``.pth``, or ``.safetensors``, which holds the state dict and ``meta`` alone.

    Raises:
        CheckpointError: the ending is another, or cannot hold what is in the checkpoint.
        OSError: the file cannot be written; what was there before is untouched.
    """
    path = Path(path)
    if path.suffix == '.safetensors':
        more = [key for key in checkpoint if key not in ('state_dict', 'meta')]
        if more:
            raise CheckpointError(
                f'{path}: .safetensors holds tensors and settings, not {", ".join(more)}; write a .pth'
            )
        save_safetensors(checkpoint['state_dict'], checkpoint.get('meta', {}), path)
        return
    if path.suffix != '.pth':
        raise CheckpointError(f'{path} must end in .pth or .safetensors')
    file = io.BytesIO()
    marked = {'meta': {**checkpoint['meta'], SEALED_BY: __version__}} if 'meta' in checkpoint else {}
    torch.save({**checkpoint, **marked}, file)
    write_atomically(append_checksum(file.getvalue()), path)
