"""Loading checkpoint files without running code, with errors that name the checkpoint as the user wrote it.

:mod:`protuning_mm.patches` installs these functions in mmengine's loaders, which the APIs of all host libraries use.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from mmengine.runner import checkpoint as mmengine_checkpoint

from protuning_mm.weights.deltas.record import RECORD
from protuning_mm.weights.errors import CheckpointError
from protuning_mm.weights.safe_load import safe_torch_load


def load_checkpoint_file(path: str, map_location: Any = 'cpu') -> dict[str, Any]:
    """Load a checkpoint by path, URL or scheme (``torchvision://``, ``open-mmlab://``, …), without running code.

    Args:
        path (str): A path, URL or scheme that mmengine supports, or the path of a ``.safetensors`` file.
        map_location: As in :func:`torch.load`. Defaults to ``'cpu'``.

    Returns:
        dict: The checkpoint.

    Raises:
        CheckpointError: the checkpoint does not exist, cannot be fetched, is damaged, is no dict, or would run code.
    """
    checkpoint: dict[str, Any] = mmengine_checkpoint.CheckpointLoader.load_checkpoint(path, map_location)
    return checkpoint


def load_url(
    url: str,
    model_dir: str | None = None,
    map_location: Any = None,
    progress: bool = True,
    check_hash: bool = False,
    file_name: str | None = None,
) -> Any:
    """Download a checkpoint, unless it is in the cache, and load it without running code.

    The arguments are those of ``torch.hub.load_state_dict_from_url``.

    Raises:
        CheckpointError: the downloaded file is damaged, no checkpoint, or would run code.
        OSError: the file cannot be fetched.
        RuntimeError: ``check_hash`` is set, and the hash in the file name differs from the file's.
    """
    folder = Path(model_dir or f'{torch.hub.get_dir()}/checkpoints')
    path = folder / (file_name or Path(urlsplit(url).path).name)
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        hashed = torch.hub.HASH_REGEX.search(path.name) if check_hash else None
        torch.hub.download_url_to_file(url, str(path), hashed and hashed.group(1), progress=progress)
    try:
        return safe_torch_load(path, map_location)
    except CheckpointError as error:
        raise CheckpointError(
            f'{str(error).replace(str(path), url)} It was downloaded to {path}: delete this file to download it again.'
        ) from None


def explain_load_errors(load: Callable[..., Any], loader: Any, filename: Any, *args: Any, **kwargs: Any) -> Any:
    """Call ``CheckpointLoader.load_checkpoint``; raise a CheckpointError that names the checkpoint."""
    try:
        checkpoint = load(loader, filename, *args, **kwargs)
    except FileNotFoundError as error:
        raise CheckpointError(f'checkpoint {filename!r} does not exist ({error})') from None
    except KeyError as error:
        raise CheckpointError(f'checkpoint {filename!r}: {error} is not a name of this scheme') from None
    except OSError as error:  # URLError is one
        raise CheckpointError(
            f'checkpoint {filename!r} cannot be fetched: {error}. Without a network, download it on another machine '
            'and give its path.'
        ) from None
    if not isinstance(checkpoint, dict):
        raise CheckpointError(
            f'checkpoint {filename!r} holds a {type(checkpoint).__name__}, but must hold a dict of tensors, or a dict '
            "with a 'state_dict'"
        )
    return checkpoint


def refuse_delta_in_plain_model(
    load: Callable[..., Any], module: Any, state_dict: Any, *args: Any, **kwargs: Any
) -> Any:
    """Call ``load_state_dict``; refuse a delta in a model without a tuned backbone, which would stay random."""
    if RECORD in state_dict and not any(getattr(part, 'accepts_deltas', False) for part in module.modules()):
        raise CheckpointError(
            f'this checkpoint is a delta: it holds no frozen backbone, and {type(module).__name__} has no '
            'ProTunedResNet or TunedBackbone that could complete it. Use the config that the delta was trained with, '
            'or convert the delta to a whole checkpoint with tools/model_converters/merge_delta.py.'
        )
    return load(module, state_dict, *args, **kwargs)
