"""What a client is told when a task cannot be read."""

from pathlib import Path
from typing import Any

from protuning_mm.engine.errors import ConfigError
from protuning_mm.multitask.errors import AnotherBaseError, MultiTaskError
from protuning_mm.serving.entry import Entry
from protuning_mm.serving.errors import RequestError, is_out_of_memory
from protuning_mm.weights import CheckpointError, safe_torch_load
from protuning_mm.weights.deltas import RECORD
from protuning_mm.weights.errors import OtherBaseError
from protuning_mm.weights.signature import SignatureError, verify_signature

_OTHER_BASE = 'was trained on another base than the tasks of this server have'


def check_delta(path: Path, key: Any = None) -> None:
    """Check that an uploaded file is an undamaged delta: only deltas are loaded strictly, tensor by tensor.

    Args:
        path (Path): The uploaded file.
        key (optional): The public key of its signature. Defaults to None: it needs none.

    Raises:
        RequestError: it is something else, would run code, or is not signed with the key (422).
    """
    try:
        if key is not None:
            verify_signature(path, key)
        checkpoint = safe_torch_load(path, 'cpu')
    except CheckpointError as error:
        raise RequestError(422, str(error).replace(str(path), 'the uploaded file')) from None
    state = checkpoint.get('state_dict') if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or RECORD not in state:
        raise RequestError(
            422, 'the uploaded file is no delta; tools/model_converters/extract_delta.py makes one of a checkpoint'
        )


def suffix_of(path: Path) -> str:
    """Return the suffix of an uploaded checkpoint by its content: ``.safetensors`` or ``.pth``."""
    with path.open('rb') as file:
        head = file.read(9)
    return '.safetensors' if head[8:] == b'{' else '.pth'


def load_error(entry: Entry, error: Exception, uploaded: bool) -> RequestError:
    """Return the error for the client. Only who may upload is told what a file contains.

    Args:
        entry (Entry): The task.
        error (Exception): Why it cannot be read.
        uploaded (bool): Whether a client has sent the delta.
    """
    what = 'the uploaded delta' if uploaded else f'task {entry.name!r}'
    if is_out_of_memory(error):
        return RequestError(503, f'there is no memory for {what} beside the tasks in use', {'Retry-After': '10'})
    if isinstance(error, AnotherBaseError):
        return RequestError(409, f'{what} {_OTHER_BASE}: {error.difference}')
    if isinstance(error, OtherBaseError):
        return RequestError(409, f'{what} {_OTHER_BASE}, or than its config names' + _details(entry, error, uploaded))
    if isinstance(error, SignatureError):
        return RequestError(500, f'{what} is not signed with the key of this server')
    if uploaded and isinstance(error, CheckpointError | MultiTaskError | ConfigError):
        return RequestError(422, f'{what} cannot be used with this config' + _details(entry, error, uploaded))
    return RequestError(422 if uploaded else 500, f"{what} cannot be read; the server's log tells why")


def _details(entry: Entry, error: Exception, uploaded: bool) -> str:
    return f': {str(error).replace(entry.delta, "the uploaded file")}' if uploaded else ''
