"""What a ``.pth`` can tell of its own damage, whoever wrote it: it is a zip archive, with a CRC of every entry.

``torch.load`` checks none of this. It finds an entry by its name in the list at the archive's end (the central
directory), goes where that points to, and takes the bytes that are there.
"""

import io
import mmap
import re
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from protuning_mm.weights.errors import CheckpointError

ZIP = b'PK\x03\x04'  # what an archive of torch begins with
Buffer = bytes | memoryview | mmap.mmap

_LOCAL = struct.Struct('<4s5H3I2H')  # the header before an entry's data
_SIZES_FOLLOW = 8  # flag: the header was written before CRC and sizes were known, and has zeros there
_UTF8 = 0x800
_IN_ZIP64 = 2**32 - 1  # a size that stands elsewhere
_LARGEST_RATIO = 1032  # of deflate
_STORAGE = re.compile(r'.*/data/(\d+)')
_ID = '.data/serialization_id'


@dataclass(frozen=True)
class _Entry:
    """An entry of the central directory, and where its data lie."""

    info: zipfile.ZipInfo
    begin: int

    @property
    def end(self) -> int:
        return self.begin + self.info.compress_size


def check_zip(data: Buffer, name: str) -> None:
    """Check an archive that ``torch.save`` or another program wrote.

    No two entries have one name or share bytes; each header says what the central directory says; each entry has its
    CRC; and the entries together are those that torch counted when it wrote the file (from torch 2.1 on).

    Args:
        data (bytes | memoryview | mmap): The whole file; one that does not begin as a zip archive is left alone.
        name (str): The file's name, for the error.

    Raises:
        CheckpointError: the file is damaged.
    """
    if bytes(data[:4]) != ZIP:
        return
    with memoryview(data) as view:
        try:
            entries = _entries(view)
            _check_content(view, entries)
        except CheckpointError as error:
            raise CheckpointError(
                f'{name} cannot be read as a checkpoint ({len(view)} bytes): {error}. It is damaged or truncated; copy '
                'or download it again.'
            ) from None


def _entries(view: memoryview) -> list[_Entry]:
    """The entries in the order of the file."""
    try:
        with zipfile.ZipFile(_File(view)) as archive:
            infos, directory = archive.infolist(), archive.start_dir
    except Exception as error:  # arbitrary bytes can fail in any way
        raise CheckpointError(f'its list of entries is not readable ({error})') from None
    names = Counter(info.filename.lower() for info in infos)  # torch's reader does not look at the case
    twice = [each for each, count in names.items() if count > 1]
    if twice:
        raise CheckpointError(f'it holds {twice[0]!r} twice')
    entries = [_located(view, info) for info in sorted(infos, key=lambda info: info.header_offset)]
    begins = [entry.info.header_offset for entry in entries]
    ends = [0, *(entry.end for entry in entries)]
    if any(begin < end for begin, end in zip([*begins, directory], ends)):
        raise CheckpointError('its entries overlap')
    if begins[:1] != [0]:
        raise CheckpointError('its entries are not where its list says')
    return entries


def _located(view: memoryview, info: zipfile.ZipInfo) -> _Entry:
    at = info.header_offset
    header = bytes(view[at : at + _LOCAL.size]) if at >= 0 else b''
    if len(header) < _LOCAL.size or header[:4] != ZIP:
        raise CheckpointError(f'{info.orig_filename!r} is not where its list says')
    _, _, flags, method, _, _, crc, packed, size, name_length, extra_length = _LOCAL.unpack(header)
    begin = at + _LOCAL.size + name_length + extra_length
    entry = _Entry(info, begin)
    written = bytes(view[at + _LOCAL.size :][:name_length])
    known = not flags & _SIZES_FOLLOW
    if (
        written != info.orig_filename.encode('utf-8' if flags & _UTF8 else 'cp437', 'replace')
        or (flags, method) != (info.flag_bits, info.compress_type)
        or (known and crc != info.CRC)
        or (known and packed not in (info.compress_size, _IN_ZIP64))
        or (known and size not in (info.file_size, _IN_ZIP64))
        or entry.end > len(view)
    ):
        raise CheckpointError(f'the header of {info.orig_filename!r} says something else than its list of entries')
    stored = method == zipfile.ZIP_STORED and info.compress_size == info.file_size
    deflated = method == zipfile.ZIP_DEFLATED and info.file_size <= _LARGEST_RATIO * (info.compress_size + 1)
    if not (stored or deflated):
        raise CheckpointError(f'the size of {info.orig_filename!r} is impossible')
    return entry


def _check_content(view: memoryview, entries: list[_Entry]) -> None:
    if not any(entry.info.CRC for entry in entries):
        return  # torch.serialization.set_crc32_options(False)
    with ThreadPoolExecutor() as pool:  # zlib releases the interpreter
        for entry, crc in zip(entries, pool.map(lambda entry: _crc(view, entry), entries)):
            if crc != entry.info.CRC:
                raise CheckpointError(f'the content of {entry.info.orig_filename!r} does not match its CRC')
    own_id = next((entry for entry in entries if entry.info.filename.endswith(_ID)), None)
    if own_id is None:
        return
    written = bytes(view[own_id.begin : own_id.end])
    if own_id.info.compress_type == zipfile.ZIP_DEFLATED:
        written = zlib.decompress(written, -zlib.MAX_WBITS)
    others = [entry.info for entry in entries if entry is not own_id and entry.info.file_size]
    orders: tuple[Callable[[str], Any], ...] = (int, str)  # of storages: torch before 2.6 sorted them as text
    if written[20:] not in {b'%020d' % _combined(_as_written(others, order)) for order in orders}:
        raise CheckpointError('its entries are not those that it was written with (torch counted them in it)')


def _crc(view: memoryview, entry: _Entry) -> int:
    data = view[entry.begin : entry.end]
    if entry.info.compress_type == zipfile.ZIP_STORED:
        return zlib.crc32(data)
    inflate, crc, left = zlib.decompressobj(-zlib.MAX_WBITS), 0, entry.info.file_size
    rest = bytes(data)
    while not inflate.eof and left >= 0:
        try:
            part = inflate.decompress(rest, 2**20)
        except zlib.error:
            return -1
        if not part and not inflate.unconsumed_tail:
            break
        crc, left, rest = zlib.crc32(part, crc), left - len(part), inflate.unconsumed_tail
    return crc if left == 0 else -1


def _as_written(infos: list[zipfile.ZipInfo], order: Callable[[str], Any]) -> list[int]:
    """CRCs in torch's order, whatever the file's is: the pickle, what is said of the file, storages, the version."""

    def place(info: zipfile.ZipInfo) -> tuple[int, Any]:
        storage, name = _STORAGE.fullmatch(info.filename), info.filename.split('/', 1)[-1]
        if storage:
            return 2, order(storage[1])
        return (0 if name == 'data.pkl' else 3 if name == 'version' else 1), name

    return [info.CRC for info in sorted(infos, key=place)]


def _combined(crcs: Iterable[int]) -> int:
    """The hash that torch's writer keeps over the CRCs of what it writes."""
    combined = 0
    for crc in crcs:
        combined ^= (crc + 0x9E3779B9 + (combined << 6) + (combined >> 2)) & (2**64 - 1)
    return combined


class _File(io.RawIOBase):
    """A view as a file, without a copy of it."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._at = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        at = offset + (0, self._at, len(self._view))[whence]
        if at < 0:
            raise OSError('before the beginning')
        self._at = at
        return at

    def tell(self) -> int:
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        end = len(self._view) if size is None or size < 0 else self._at + size
        part = bytes(self._view[self._at : end])
        self._at += len(part)
        return part
