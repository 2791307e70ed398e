"""Safe loading of checkpoints: no code in a file is ever run.

``torch.load`` unpickles, and a pickle can call any function. mmengine first tries torch's restricted unpickler. If that
refuses a file, mmengine falls back to the unrestricted one with a warning. This module never falls back.
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

from protuning_mm.weights.checksum import WRITER_VERSION, verify_checksum
from protuning_mm.weights.config_text import drop_config_text
from protuning_mm.weights.content import check_content, check_parts, is_plain_dtype
from protuning_mm.weights.deltas.record import check_deltas
from protuning_mm.weights.errors import CheckpointError
from protuning_mm.weights.safetensors_file import load_safetensors

_scalar: Any = np.float64(0).__reduce__()[0]


class _Buffer(HistoryBuffer):
    """Replaces mmengine's HistoryBuffer during unpickling.

    ``HistoryBuffer.__setstate__`` looks up functions by names in the file and stores them in its class.
    """

    def __setstate__(self, state: Any) -> None:
        logged, counts, longest = (state[key] for key in ('_log_history', '_count_history', 'max_length'))
        arrays = all(type(each) is np.ndarray and is_plain_dtype(each.dtype) for each in (logged, counts))
        if not arrays or logged.shape != counts.shape or logged.ndim != 1 or type(longest) is not int:
            raise ValueError('a HistoryBuffer with other attributes than mmengine writes')
        self.__dict__.update(_log_history=logged, _count_history=counts, max_length=longest)
        self.__class__ = HistoryBuffer


class _Statistics:
    """Replaces the methods of HistoryBuffer during unpickling: the pickle names them, but loading needs none."""

    def __init__(self, owner: Any, name: Any) -> None:
        if owner is not _Buffer or not isinstance(name, str) or name.startswith('_'):
            raise pickle.UnpicklingError(f'Unsupported global: getattr({owner!r}, {name!r})')


def _numpy_scalar(dtype: Any, data: Any) -> Any:
    if not isinstance(dtype, np.dtype) or not is_plain_dtype(dtype):
        raise pickle.UnpicklingError(f'Unsupported class: a numpy scalar of {dtype!r}')
    return _scalar(dtype, data)


def _allowed_globals() -> list[Any]:
    """List the globals in mmengine's own checkpoints besides tensors: buffers of the message hub and numpy scalars."""
    reconstruct = np.empty(0).__reduce__()[0]
    dtypes = [type(np.dtype(name)) for name in ('float64', 'float32', 'int64', 'int32', 'uint32')]
    return [
        np.ndarray,
        np.dtype,
        slice,
        *dtypes,
        # numpy renamed `core` to `_core`; older and newer files name one or the other
        *((reconstruct, f'numpy.{name}.multiarray._reconstruct') for name in ('core', '_core')),
        *((_numpy_scalar, f'numpy.{name}.multiarray.scalar') for name in ('core', '_core')),
        (_Buffer, 'mmengine.logging.history_buffer.HistoryBuffer'),
        (_Statistics, 'builtins.getattr'),
    ]


def safe_torch_load(file: Any, map_location: Any = None, weights_only: bool | None = None) -> Any:
    """Load a file that ``torch.save`` wrote, with only torch's restricted unpickler.

    Importing the package replaces ``mmengine.runner.checkpoint._safe_torch_load`` by this function.

    Args:
        file: A path or a binary file object.
        map_location: As in :func:`torch.load`. Defaults to None.
        weights_only (bool, optional): Ignored; mmengine passes it. Loading always uses ``weights_only=True``.

    Returns:
        Any: The content of the file.

    Raises:
        CheckpointError: the file is damaged, is no checkpoint, or would run code when it is unpickled.
        FileNotFoundError: the file does not exist.
    """
    name = os.fspath(file) if isinstance(file, str | os.PathLike) else repr(file)
    if name.endswith('.safetensors'):
        return _check(load_safetensors(name, map_location), name, warn=False)
    has_checksum = verify_checksum(file)
    try:
        with torch.serialization.safe_globals(_allowed_globals()):
            checkpoint = torch.load(file, map_location=map_location, weights_only=True)
    except FileNotFoundError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(_explain_refusal(name, str(error))) from None
    except Exception as error:  # arbitrary bytes are an arbitrary pickle program, which can fail in any way
        raise CheckpointError(
            f'{name} cannot be read as a checkpoint ({_describe_size(file)}): {_first_line(error)}. It is damaged, '
            'truncated or not written by torch.save; copy or download it again.'
        ) from None
    return _check(checkpoint, name, warn=not has_checksum)


def _check(checkpoint: Any, name: str, warn: bool) -> Any:
    """Check that loaded content is only data, verify deltas, and remove the text of the config."""
    check_content(checkpoint, name)
    if isinstance(checkpoint, dict):
        try:
            check_parts(checkpoint)
            check_deltas(checkpoint)
        except CheckpointError as error:
            raise CheckpointError(f'{name}: {error}') from None
        _warn_if_checksum_is_lost(checkpoint, name, warn)
        drop_config_text(checkpoint)
    return checkpoint


def _warn_if_checksum_is_lost(checkpoint: dict[str, Any], name: str, warn: bool) -> None:
    """Warn if protuning_mm wrote a checkpoint with a checksum that is missing now; forget who wrote the checkpoint."""
    version = checkpoint.get('meta', {}).pop(WRITER_VERSION, None)
    if version is not None and warn:
        print_log(
            f'{name} was written by protuning_mm {version} with a checksum, but the checksum is missing: another '
            'program has saved the file again. Changes cannot be detected, except for the tensors of a delta',
            'current',
            logging.WARNING,
        )


# Messages of torch's restricted unpickler if a pickle names or calls something that is not allowed.
_WOULD_RUN_CODE = ('nsupported global', 'nsupported class', 'Trying to', 'Can only')


def _explain_refusal(name: str, reason: str) -> str:
    # torch's message also advises `weights_only=False`, which would run the code
    for line in reason.replace('. ', '.\n').splitlines():
        if any(sign in line for sign in _WOULD_RUN_CODE):
            return (
                f'{name} is refused: unpickling it would run code ({line.strip()}). A checkpoint holds tensors, '
                'numbers and text; a file with anything else is not loaded. To convert a file that you trust, save '
                'only its state_dict.'
            )
    what = next((line for line in reason.splitlines() if 'nsupported' in line), _first_line(reason))
    return f'{name} cannot be read as a checkpoint: {what.strip()}. It is damaged or not written by torch.save.'


def _describe_size(file: Any) -> str:
    if isinstance(file, str | os.PathLike) and Path(file).is_file():
        return f'{Path(file).stat().st_size} bytes'
    return 'unknown size'


def _first_line(error: object) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
