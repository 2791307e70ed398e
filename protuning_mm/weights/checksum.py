"""The checksum of a file, inside the file: a changed bit is detected before anything is unpickled.

A ``.pth`` of torch is a zip archive, and a zip archive may end with a comment: the comment holds the checksum. A
``.safetensors`` file begins with a header of text: an entry of its metadata holds the checksum. Other programs read
both kinds normally. The checksum is the SHA-256 of the whole file, in which the digits of the checksum itself are
zeros.
"""

import hashlib
import mmap
from pathlib import Path
from typing import Any

from protuning_mm.weights.errors import CheckpointError
from protuning_mm.weights.zip_file import ZIP, Buffer, check_zip

CHECKSUM_KEY = 'protuning_mm.sha256'
# Key in a checkpoint's meta: the version of this package that wrote the file with a checksum. The value of this
# constant is part of the file format.
WRITER_VERSION = 'sealed_by_protuning_mm'
_ZEROS = b'0' * 64
_COMMENT = CHECKSUM_KEY.encode() + b' '
_ENTRY = f'"{CHECKSUM_KEY}":"'.encode()
# the end record of a zip archive: 22 bytes, the last two are the length of the comment that follows
_END = b'PK\x05\x06'
_END_SIZE = 22
_TAIL = _END_SIZE + 2**16


def append_checksum(data: bytes) -> bytes:
    """Add a checksum to a zip archive.

    Args:
        data (bytes): The content of a file that ``torch.save`` wrote.

    Returns:
        bytes: The content with a checksum. Other content (torch's format before 1.6, an archive with a comment) is
        returned unchanged.
    """
    if not data.startswith(ZIP) or data[-_END_SIZE:-18] != _END or data[-2:] != b'\0\0':
        return data
    comment = _COMMENT + _ZEROS
    opened = data[:-2] + len(comment).to_bytes(2, 'little') + comment
    return _fill_in_hash(opened, len(opened) - len(_ZEROS))


def insert_checksum(data: bytes) -> bytes:
    """Insert the checksum of a safetensors file.

    Args:
        data (bytes): The content of the file, whose metadata have an entry ``CHECKSUM_KEY`` of 64 zeros.

    Returns:
        bytes: The content with the checksum in place of the zeros.
    """
    at = data.index(_ENTRY + _ZEROS) + len(_ENTRY)
    return _fill_in_hash(data, at)


def verify_checksum(file: Any) -> bool:
    """Verify the checksum of a file; in a zip archive without a checksum, verify the CRCs of its entries.

    Args:
        file (str | PathLike | BinaryIO): A ``.pth`` or ``.safetensors`` file, or an open ``.pth`` file.

    Returns:
        bool: Whether the file has a checksum. Files of other programs have none.

    Raises:
        CheckpointError: the file is damaged, or was changed after it was saved.
    """
    if hasattr(file, 'read'):
        position = file.tell()
        data = file.read()
        file.seek(position)
        return _verify(data, repr(file), safetensors=False)
    path = Path(file)
    if not path.is_file() or not path.stat().st_size:
        return False
    with path.open('rb') as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _verify(data, str(file), safetensors=path.suffix == '.safetensors')


def _verify(data: Buffer, name: str, safetensors: bool) -> bool:
    at = _find_in_header(data, name) if safetensors else _find_in_comment(data, name)
    if at is None:
        if not safetensors:
            check_zip(data, name)
        return False
    if bytes(data[at : at + len(_ZEROS)]) != _hash(data, at):
        raise _changed(name, 'its content does not match its checksum')
    return True


def _find_in_comment(data: Buffer, name: str) -> int | None:
    if bytes(data[:4]) != ZIP:
        return None
    tail = bytes(data[-_TAIL:])
    end = tail.rfind(_END)
    if end < 0:
        return None  # not an archive: torch raises an error
    comment = tail[end + _END_SIZE :]
    declared = int.from_bytes(tail[end + _END_SIZE - 2 : end + _END_SIZE], 'little')
    if len(comment) != declared:
        raise _changed(name, f'its comment has {len(comment)} bytes instead of {declared}')
    if not comment:
        return None
    if not comment.startswith(_COMMENT) or len(comment) != len(_COMMENT) + len(_ZEROS):
        raise _changed(name, 'its checksum is not readable')
    return len(data) - len(_ZEROS)


def _find_in_header(data: Buffer, name: str) -> int | None:
    header = bytes(data[8 : 8 + int.from_bytes(data[:8], 'little')])
    at = header.find(_ENTRY)
    if at < 0:
        if b'protuning_mm' in header:
            raise _changed(name, 'its checksum is missing from the header')
        return None
    return 8 + at + len(_ENTRY)


def _fill_in_hash(data: bytes, at: int) -> bytes:
    return data[:at] + _hash(data, at) + data[at + len(_ZEROS) :]


def _hash(data: Buffer, at: int) -> bytes:
    with memoryview(data) as view:
        hashed = hashlib.sha256(view[:at])
        hashed.update(_ZEROS)
        hashed.update(view[at + len(_ZEROS) :])
    return hashed.hexdigest().encode()


def _changed(name: str, how: str) -> CheckpointError:
    return CheckpointError(
        f'{name} is not the file that was saved: {how}. It is damaged, truncated or was changed; copy or download it '
        'again.'
    )
