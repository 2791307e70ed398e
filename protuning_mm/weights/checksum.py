"""A hash of a file's own bytes, inside the file: a changed bit is found before anything is unpickled.

A ``.pth`` of torch is a zip archive, and a zip archive may end with a comment: the seal is that comment. A
``.safetensors`` file begins with a header of text: the seal is an entry of its metadata. Both stay readable by every
other program. The hash is taken over the whole file with the hash's own digits as zeros.
"""

import hashlib
import mmap
from pathlib import Path
from typing import Any

from protuning_mm.weights.errors import CheckpointError
from protuning_mm.weights.zip_file import ZIP, Buffer, check_zip

SEAL = 'protuning_mm.sha256'
SEALED_BY = 'sealed_by_protuning_mm'  # in a checkpoint's meta: the version that wrote it with a seal
_NONE = b'0' * 64
_COMMENT = SEAL.encode() + b' '
_ENTRY = f'"{SEAL}":"'.encode()
_END = b'PK\x05\x06'  # the end record of a zip archive: 22 bytes, the last two the length of the comment after them
_END_SIZE = 22
_TAIL = _END_SIZE + 2**16


def append_checksum(data: bytes) -> bytes:
    """Seal what ``torch.save`` wrote; anything else (torch's format before 1.6, a sealed file) is handed back."""
    if not data.startswith(ZIP) or data[-_END_SIZE:-18] != _END or data[-2:] != b'\0\0':
        return data
    comment = _COMMENT + _NONE
    opened = data[:-2] + len(comment).to_bytes(2, 'little') + comment
    return _close(opened, len(opened) - len(_NONE))


def fill_in_checksum(data: bytes) -> bytes:
    """Seal a safetensors file whose metadata have an entry ``SEAL`` of 64 zeros."""
    at = data.index(_ENTRY + _NONE) + len(_ENTRY)
    return _close(data, at)


def verify_checksum(file: Any) -> bool:
    """Check the seal of a file, or, where a zip archive has none, what the archive itself can tell of damage.

    Args:
        file (str | PathLike | BinaryIO): A ``.pth`` or ``.safetensors`` file, or an open one of the first kind.

    Returns:
        bool: Whether there is a seal. Files that other programs wrote have none.

    Raises:
        CheckpointError: the file is not what was sealed: it is damaged or was changed.
    """
    if hasattr(file, 'read'):
        place = file.tell()
        data = file.read()
        file.seek(place)
        return _check(data, repr(file), safetensors=False)
    path = Path(file)
    if not path.is_file() or not path.stat().st_size:
        return False
    with path.open('rb') as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _check(data, str(file), safetensors=path.suffix == '.safetensors')


def _check(data: Buffer, name: str, safetensors: bool) -> bool:
    at = _in_header(data, name) if safetensors else _in_comment(data, name)
    if at is None:
        if not safetensors:
            check_zip(data, name)
        return False
    if bytes(data[at : at + len(_NONE)]) != _hash(data, at):
        raise _changed(name, 'its content does not match the hash in it')
    return True


def _in_comment(data: Buffer, name: str) -> int | None:
    if bytes(data[:4]) != ZIP:
        return None
    tail = bytes(data[-_TAIL:])
    end = tail.rfind(_END)
    if end < 0:
        return None  # torch says what is wrong
    comment = tail[end + _END_SIZE :]
    declared = int.from_bytes(tail[end + _END_SIZE - 2 : end + _END_SIZE], 'little')
    if len(comment) != declared:
        raise _changed(name, f'it ends with {len(comment)} bytes where {declared} are announced')
    if not comment:
        return None
    if not comment.startswith(_COMMENT) or len(comment) != len(_COMMENT) + len(_NONE):
        raise _changed(name, 'its seal is not readable')
    return len(data) - len(_NONE)


def _in_header(data: Buffer, name: str) -> int | None:
    header = bytes(data[8 : 8 + int.from_bytes(data[:8], 'little')])
    at = header.find(_ENTRY)
    if at < 0:
        if b'protuning_mm' in header:
            raise _changed(name, 'its seal is gone from the header')
        return None
    return 8 + at + len(_ENTRY)


def _close(data: bytes, at: int) -> bytes:
    return data[:at] + _hash(data, at) + data[at + len(_NONE) :]


def _hash(data: Buffer, at: int) -> bytes:
    with memoryview(data) as view:
        hashed = hashlib.sha256(view[:at])
        hashed.update(_NONE)
        hashed.update(view[at + len(_NONE) :])
    return hashed.hexdigest().encode()


def _changed(name: str, how: str) -> CheckpointError:
    return CheckpointError(
        f'{name} is not what was saved: {how}. It is damaged, truncated or was changed; copy or download it again.'
    )
