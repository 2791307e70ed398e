"""Reading checkpoints without ever running what is in them.

``torch.load`` unpickles, and a pickle can call anything. mmengine first tries torch's restricted unpickler and then,
when it refuses, falls back to the unrestricted one with a warning. Here a refusal is final.
"""

import logging
import os
import pickle
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.runner import checkpoint as mmengine_checkpoint

from protuning_mm.checkpoints.config_text import is_plain
from protuning_mm.checkpoints.deltas.record import RECORD, check_deltas
from protuning_mm.checkpoints.errors import CheckpointError
from protuning_mm.checkpoints.safetensors_file import load_safetensors
from protuning_mm.checkpoints.seal import check_seal


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
    if name.endswith('.safetensors'):
        return load_safetensors(name, map_location)
    check_seal(file)
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
    return _checked(checkpoint, name)


def load_checkpoint_file(path: str, map_location: Any = 'cpu') -> dict[str, Any]:
    """Load a checkpoint by path, URL or scheme (``torchvision://``, ``open-mmlab://``, …), without running code.

    Args:
        path (str): Where the checkpoint is, in mmengine's words, or the path of a ``.safetensors`` file.
        map_location: As in :func:`torch.load`. Defaults to ``'cpu'``.

    Raises:
        CheckpointError: it is not there, cannot be fetched, is damaged, is no dict, or would run code.
    """
    install()
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


def install() -> None:
    """Put :func:`safe_torch_load` under every loader of mmengine, and so under the hosts' APIs."""
    if mmengine_checkpoint._safe_torch_load is safe_torch_load:
        return
    mmengine_checkpoint._safe_torch_load = safe_torch_load
    mmengine_checkpoint.load_url = _weights_only(mmengine_checkpoint.load_url)
    mmengine_checkpoint.load_state_dict = _no_delta_into_plain(mmengine_checkpoint.load_state_dict)


def _no_delta_into_plain(load_state_dict: Callable[..., Any]) -> Callable[..., Any]:
    """mmengine loads what fits and warns of the rest: a delta would leave a model without our backbone random."""

    @wraps(load_state_dict)
    def load(module: Any, state_dict: Any, *args: Any, **kwargs: Any) -> Any:
        if RECORD in state_dict and not any(getattr(part, 'accepts_deltas', False) for part in module.modules()):
            raise CheckpointError(
                f'this checkpoint is a delta: it holds no frozen backbone, and {type(module).__name__} has none that '
                'could complete it (ProTunedResNet, TunedBackbone). Use the config that it was trained with, or make '
                'it whole with tools/model_converters/merge_delta.py.'
            )
        return load_state_dict(module, state_dict, *args, **kwargs)

    return load


def _weights_only(load_url: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(load_url)
    def load(url: str, *args: Any, **kwargs: Any) -> Any:
        try:
            with torch.serialization.safe_globals(_allowed_globals()):
                checkpoint = load_url(url, *args, **kwargs, weights_only=True)
        except pickle.UnpicklingError as error:
            raise CheckpointError(_refusal(url, str(error))) from None
        except OSError:  # the network's
            raise
        except Exception as error:  # arbitrary bytes are an arbitrary pickle program: it can fail in any way
            raise CheckpointError(
                f'{url} cannot be read as a checkpoint: {_first_line(error)}. If the download was cut, delete the file '
                f'of that name in {torch.hub.get_dir()}/checkpoints and try again.'
            ) from None
        return _checked(checkpoint, url)

    return load


def _checked(checkpoint: Any, name: str) -> Any:
    """What was read, with deltas verified and without config text that is more than data."""
    if isinstance(checkpoint, dict):
        try:
            check_deltas(checkpoint)
        except CheckpointError as error:
            raise CheckpointError(f'{name}: {error}') from None
        _drop_config_text(checkpoint, name)
    return checkpoint


def _drop_config_text(checkpoint: dict[str, Any], name: str) -> None:
    hub = checkpoint.get('message_hub')
    places = [(checkpoint.get('meta'), 'cfg'), (hub.get('runtime_info') if isinstance(hub, dict) else None, 'cfg')]
    for holder, key in places:
        if isinstance(holder, dict) and key in holder and not is_plain(holder[key]):
            del holder[key]
            print_log(
                f'{name} holds the text of a config that is more than settings (it calls, imports or reads something); '
                'it is left out, and an inferencer needs the config itself',
                'current',
                logging.WARNING,
            )
    if isinstance(checkpoint.get('meta'), dict):  # old files' text, which `Runner.resume` would execute
        checkpoint['meta'].pop('config', None)


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
