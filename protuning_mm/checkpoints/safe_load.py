"""Reading checkpoints without ever running what is in them.

``torch.load`` unpickles, and a pickle can call anything. mmengine first tries torch's restricted unpickler and then,
when it refuses, falls back to the unrestricted one with a warning. Here a refusal is final.
"""

import os
import pickle
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.runner import checkpoint as mmengine_checkpoint

from protuning_mm.checkpoints.errors import CheckpointError


def _getattr_of_history_buffer(owner: Any, name: str) -> Any:
    """Stand in for ``getattr``, which old pickle protocols need to name a method of mmengine's HistoryBuffer."""
    if owner is not HistoryBuffer or not isinstance(name, str) or name.startswith('_'):
        raise pickle.UnpicklingError(f'Unsupported global: getattr({owner!r}, {name!r})')
    return getattr(owner, name)


def _allowed_globals() -> list[Any]:
    """What mmengine's own checkpoints hold besides tensors: the message hub's buffers and numpy scalars."""
    reconstruct, scalar = np.empty(0).__reduce__()[0], np.float64(0).__reduce__()[0]
    dtypes = [type(np.dtype(name)) for name in ('float64', 'float32', 'int64', 'int32', 'uint32')]
    return [
        np.ndarray,
        np.dtype,
        HistoryBuffer,
        slice,
        *dtypes,
        # numpy moved `core` to `_core`: files written on either side name either.
        *((reconstruct, f'numpy.{name}.multiarray._reconstruct') for name in ('core', '_core')),
        *((scalar, f'numpy.{name}.multiarray.scalar') for name in ('core', '_core')),
        (_getattr_of_history_buffer, 'builtins.getattr'),
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
    try:
        with torch.serialization.safe_globals(_allowed_globals()):
            return _without_config_text(torch.load(file, map_location=map_location, weights_only=True))
    except FileNotFoundError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(_refusal(name, str(error))) from None
    except Exception as error:  # arbitrary bytes are an arbitrary pickle program: it can fail in any way
        raise CheckpointError(
            f'{name} cannot be read as a checkpoint ({_size(file)}): {_first_line(error)}. It is damaged, truncated or '
            'no file that torch.save wrote; copy or download it again.'
        ) from None


def load_checkpoint_file(path: str, map_location: Any = 'cpu') -> dict[str, Any]:
    """Load a checkpoint by path, URL or scheme (``torchvision://``, ``open-mmlab://``, …), without running code.

    Args:
        path (str): Where the checkpoint is, in mmengine's words, or the path of a ``.safetensors`` file.
        map_location: As in :func:`torch.load`. Defaults to ``'cpu'``.

    Raises:
        CheckpointError: it is not there, cannot be fetched, is damaged, is no dict, or would run code.
    """
    install()
    if path.endswith('.safetensors'):
        return _load_safetensors(path, map_location)
    try:
        checkpoint = mmengine_checkpoint.CheckpointLoader.load_checkpoint(path, map_location)
    except FileNotFoundError as error:
        raise CheckpointError(f'checkpoint {path!r} does not exist ({error})') from None
    except KeyError as error:
        raise CheckpointError(f'checkpoint {path!r}: {error} is not a name that this scheme knows') from None
    except OSError as error:  # URLError is one
        raise CheckpointError(
            f'checkpoint {path!r} cannot be fetched: {error}. Without a network, download it '
            'elsewhere and give its path.'
        ) from None
    if not isinstance(checkpoint, dict):
        raise CheckpointError(
            f'checkpoint {path!r} holds a {type(checkpoint).__name__}; a dict of tensors, or one '
            "with a 'state_dict', is expected"
        )
    return checkpoint


def _load_safetensors(path: str, device: Any) -> dict[str, Any]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError:
        raise CheckpointError(f'{path} needs the package safetensors to be read: pip install safetensors') from None
    try:
        return load_file(path, device)
    except FileNotFoundError as error:
        raise CheckpointError(f'checkpoint {path!r} does not exist ({error})') from None
    except SafetensorError as error:
        raise CheckpointError(
            f'{path} cannot be read as a safetensors file ({_size(path)}): {error}. It is damaged, truncated or no '
            'such file; copy or download it again.'
        ) from None


def install() -> None:
    """Put :func:`safe_torch_load` under every loader of mmengine, and so under the hosts' APIs."""
    if mmengine_checkpoint._safe_torch_load is safe_torch_load:
        return
    mmengine_checkpoint._safe_torch_load = safe_torch_load
    mmengine_checkpoint.load_url = _weights_only(mmengine_checkpoint.load_url)


def _weights_only(load_url: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(load_url)
    def load(url: str, *args: Any, **kwargs: Any) -> Any:
        try:
            with torch.serialization.safe_globals(_allowed_globals()):
                return _without_config_text(load_url(url, *args, **kwargs, weights_only=True))
        except pickle.UnpicklingError as error:
            raise CheckpointError(_refusal(url, str(error))) from None
        except OSError:  # the network's
            raise
        except Exception as error:  # arbitrary bytes are an arbitrary pickle program: it can fail in any way
            raise CheckpointError(
                f'{url} cannot be read as a checkpoint: {_first_line(error)}. If the download was cut, delete the file '
                f'of that name in {torch.hub.get_dir()}/checkpoints and try again.'
            ) from None

    return load


def _without_config_text(checkpoint: Any) -> Any:
    """Drop ``meta['config']``, old files' config as Python source, which ``Runner.resume`` would execute."""
    if isinstance(checkpoint, dict) and isinstance(checkpoint.get('meta'), dict):
        checkpoint['meta'].pop('config', None)
    return checkpoint


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
