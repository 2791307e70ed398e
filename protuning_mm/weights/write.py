"""Writing checkpoints atomically and with a checksum, as ``.pth`` or ``.safetensors``."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from protuning_mm.version import __version__
from protuning_mm.weights.atomic import write_atomically
from protuning_mm.weights.checksum import WRITER_VERSION, append_checksum
from protuning_mm.weights.errors import CheckpointError
from protuning_mm.weights.safetensors_file import save_safetensors


def write_checkpoint(checkpoint: Mapping[str, Any], path: str | Path) -> None:
    """Write a checkpoint atomically and with a checksum.

    Args:
        checkpoint (Mapping): A checkpoint in mmengine's layout, ``dict(state_dict=…, meta=…, …)``.
        path (str | Path): A file name that ends in ``.pth`` or ``.safetensors``. A ``.safetensors`` file can hold only
            the state dict and ``meta``.

    Raises:
        CheckpointError: the path has another ending, or the format cannot hold the checkpoint.
        OSError: the file cannot be written; an existing file is unchanged.
    """
    path = Path(path)
    if path.suffix == '.safetensors':
        more = [key for key in checkpoint if key not in ('state_dict', 'meta')]
        if more:
            raise CheckpointError(
                f'{path}: .safetensors can hold only tensors and meta, not {", ".join(more)}; write a .pth'
            )
        save_safetensors(checkpoint['state_dict'], checkpoint.get('meta', {}), path)
        return
    if path.suffix != '.pth':
        raise CheckpointError(f'{path} must end in .pth or .safetensors')
    file = io.BytesIO()
    with_version = {'meta': {**checkpoint['meta'], WRITER_VERSION: __version__}} if 'meta' in checkpoint else {}
    torch.save({**checkpoint, **with_version}, file)
    write_atomically(append_checksum(file.getvalue()), path)
