"""Reading checkpoints without ever running what is in them.

``torch.load`` unpickles, and a pickle can call anything. mmengine first tries torch's restricted unpickler and then,
when it refuses, falls back to the unrestricted one with a warning. Here a refusal is final.
"""

import logging
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.logging.history_buffer import HistoryBuffer

from protuning_mm.weights.checksum import SEALED_BY, verify_checksum
from protuning_mm.weights.config_text import drop_config_text
from protuning_mm.weights.content import check_content, check_parts, plain_dtype
from protuning_mm.weights.deltas.record import check_deltas
from protuning_mm.weights.errors import CheckpointError
from protuning_mm.weights.safetensors_file import load_safetensors

_scalar: Any = np.float64(0).__reduce__()[0]


class _Buffer(HistoryBuffer):
    """Stands in for mmengine's HistoryBuffer, which puts functions that a file names into the class itself."""

    def __setstate__(self, state: Any) -> None:
        logged, counts, longest = (state[key] for key in ('_log_history', '_count_history', 'max_length'))
        arrays = type(logged) is type(counts) is np.ndarray and plain_dtype(logged.dtype) and plain_dtype(counts.dtype)
        if not arrays or logged.shape != counts.shape or logged.ndim != 1 or type(longest) is not int:
            raise ValueError('a HistoryBuffer of other parts than mmengine writes')
        self.__dict__.update(_log_history=logged, _count_history=counts, max_length=longest)
        self.__class__ = HistoryBuffer


class _Statistics:
    """Stands in for a method of HistoryBuffer, which its pickle names and nothing here needs."""

    def __init__(self, owner: Any, name: Any) -> None:
        if owner is not _Buffer or not isinstance(name, str) or name.startswith('_'):
            raise pickle.UnpicklingError(f'Unsupported global: getattr({owner!r}, {name!r})')


def _numpy_scalar(dtype: Any, data: Any) -> Any:
    if not isinstance(dtype, np.dtype) or not plain_dtype(dtype):
        raise pickle.UnpicklingError(f'Unsupported class: a numpy scalar of {dtype!r}')
    return _scalar(dtype, data)


def _allowed_globals() -> list[Any]:
    """What mmengine's own checkpoints hold besides tensors: the message hub's buffers and numpy scalars."""
    reconstruct = np.empty(0).__reduce__()[0]
    dtypes = [type(np.dtype(name)) for name in ('float64', 'float32', 'int64', 'int32', 'uint32')]
    return [
        np.ndarray,
        np.dtype,
        slice,
        *dtypes,
        # numpy moved `core` to `_core`: files written on either side name either.
        *((reconstruct, f'numpy.{name}.multiarray._reconstruct') for name in ('core', '_core')),
        *((_numpy_scalar, f'numpy.{name}.multiarray.scalar') for name in ('core', '_core')),
        (_Buffer, 'mmengine.logging.history_buffer.HistoryBuffer'),
        (_Statistics, 'builtins.getattr'),
    ]


def safe_torch_load(file: Any, map_location: Any = None, weights_only: bool | None = None) -> Any:
    """Load a file that ``torch.save`` wrote, with torch's restricted unpickler and nothing else.

    Takes the place of ``mmengine.runner.checkpoint._safe_torch_load`` once the package is imported.

    Args:
        file: A path or a binary file object.
        map_location: As in :func:`torch.load`.
        weights_only (bool, optional): Accepted because mmengine passes it; never less than True.

    Raises:
        CheckpointError: the file is damaged, no checkpoint, or would run code when unpickled.
    """
    name = os.fspath(file) if isinstance(file, str | os.PathLike) else repr(file)
    if name.endswith('.safetensors'):
        return _checked(load_safetensors(name, map_location), name, sealed=True)
    sealed = verify_checksum(file)
    try:
        with torch.serialization.safe_globals(_allowed_globals()):
            checkpoint = torch.load(file, map_location=map_location, weights_only=True)
    except FileNotFoundError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(_refusal(name, str(error))) from None
    except Exception as error:  # arbitrary bytes are an arbitrary pickle program: it can fail in any way
        raise CheckpointError(
            f'{name} cannot be read as a checkpoint ({_size(file)}): {_first_line(error)}. It is damaged, truncated or '
            'no file that torch.save wrote; copy or download it again.'
        ) from None
    return _checked(checkpoint, name, sealed)


def _checked(checkpoint: Any, name: str, sealed: bool) -> Any:
    """What was read, if it is data alone, with deltas verified and without the text of a config."""
    check_content(checkpoint, name)
    if isinstance(checkpoint, dict):
        try:
            check_parts(checkpoint)
            check_deltas(checkpoint)
        except CheckpointError as error:
            raise CheckpointError(f'{name}: {error}') from None
        _tell_lost_seal(checkpoint, name, sealed)
        drop_config_text(checkpoint)
    return checkpoint


def _tell_lost_seal(checkpoint: dict[str, Any], name: str, sealed: bool) -> None:
    """What is written from this content again is another program's file, and says nothing of a seal."""
    version = checkpoint.get('meta', {}).pop(SEALED_BY, None)
    if version is not None and not sealed:
        print_log(
            f'{name} was sealed by protuning_mm {version}, and its seal is gone: another program wrote the file again. '
            'Nothing tells whether it is what was saved, except for the tensors of a delta, whose record holds',
            'current',
            logging.WARNING,
        )


# What torch's restricted unpickler says when a pickle names or calls what it does not know.
_WOULD_RUN_CODE = ('nsupported global', 'nsupported class', 'Trying to', 'Can only')


def _refusal(name: str, reason: str) -> str:
    # torch's message goes on to advise `weights_only=False`: the very thing that must not be done.
    for line in reason.replace('. ', '.\n').splitlines():
        if any(sign in line for sign in _WOULD_RUN_CODE):
            return (
                f'{name} is refused: unpickling it would run code ({line.strip()}). A checkpoint holds tensors, '
                'numbers and text; one that needs more is not loaded. Convert it where you trust it: save its '
                'state_dict alone.'
            )
    what = next((line for line in reason.splitlines() if 'nsupported' in line), _first_line(reason))
    return f'{name} cannot be read as a checkpoint: {what.strip()}. It is damaged or no file that torch.save wrote.'


def _size(file: Any) -> str:
    if isinstance(file, str | os.PathLike) and Path(file).is_file():
        return f'{Path(file).stat().st_size} bytes'
    return 'unknown size'


def _first_line(error: object) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
