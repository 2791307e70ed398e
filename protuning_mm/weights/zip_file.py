"""Integrity of ``.pth`` files of any program: a ``.pth`` is a zip archive with a CRC for every entry.

``torch.load`` does not check the CRCs. It looks up an entry by its name in the central directory, the list at the end
of the archive, and reads the bytes at the offset that the directory gives.
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

ZIP = b'PK\x03\x04'  # the first bytes of an archive of torch
Buffer = bytes | memoryview | mmap.mmap

_HEADER = struct.Struct('<4s5H3I2H')  # the header before an entry's data
_SIZES_FOLLOW = 8  # flag: CRC and sizes were not known when the header was written, and are zeros in it
_UTF8 = 0x800
_IN_ZIP64 = 2**32 - 1  # a size that is stored in an extra field
_MAX_RATIO = 1032  # the highest compression ratio of deflate
_STORAGE = re.compile(r'.*/data/(\d+)')
_ID = '.data/serialization_id'


@dataclass(frozen=True)
class _Entry:
    """An entry of the central directory, and the position of its data."""

    info: zipfile.ZipInfo
    begin: int

    @property
    def end(self) -> int:
        return self.begin + self.info.compress_size


def check_zip(data: Buffer, name: str) -> None:
    """Check a zip archive that ``torch.save`` or another program wrote.

    Entries must have different names and must not overlap. Headers must agree with the central directory, and contents
    with their CRCs. From torch 2.1 on, an archive contains a hash of the CRCs of its entries, which must agree too.

    Args:
        data (bytes | memoryview | mmap): The whole file. A file that does not begin as a zip archive is not checked.
        name (str): The name of the file, for the error.

    Raises:
        CheckpointError: the file is damaged.
    """
    if bytes(data[:4]) != ZIP:
        return
    with memoryview(data) as view:
        try:
            entries = _read_directory(view)
            _check_content(view, entries)
        except CheckpointError as error:
            raise CheckpointError(
                f'{name} cannot be read as a checkpoint ({len(view)} bytes): {error}. It is damaged or truncated; copy '
                'or download it again.'
            ) from None


def _read_directory(view: memoryview) -> list[_Entry]:
    """Read the entries of the central directory, in the order of their data."""
    try:
        with zipfile.ZipFile(_File(view)) as archive:
            infos, directory = archive.infolist(), archive.start_dir
    except Exception as error:  # arbitrary bytes can fail in any way
        raise CheckpointError(f'its directory is not readable ({error})') from None
    names = Counter(info.filename.lower() for info in infos)  # torch's reader ignores the case
    twice = [each for each, count in names.items() if count > 1]
    if twice:
        raise CheckpointError(f'it contains {twice[0]!r} twice')
    entries = [_locate(view, info) for info in sorted(infos, key=lambda info: info.header_offset)]
    begins = [entry.info.header_offset for entry in entries]
    ends = [0, *(entry.end for entry in entries)]
    if any(begin < end for begin, end in zip([*begins, directory], ends)):
        raise CheckpointError('its entries overlap')
    if begins[:1] != [0]:
        raise CheckpointError('its entries are not where its directory says')
    return entries


def _locate(view: memoryview, info: zipfile.ZipInfo) -> _Entry:
    at = info.header_offset
    header = bytes(view[at : at + _HEADER.size]) if at >= 0 else b''
    if len(header) < _HEADER.size or header[:4] != ZIP:
        raise CheckpointError(f'{info.orig_filename!r} is not where the directory says')
    _, _, flags, method, _, _, crc, packed, size, name_length, extra_length = _HEADER.unpack(header)
    begin = at + _HEADER.size + name_length + extra_length
    entry = _Entry(info, begin)
    written = bytes(view[at + _HEADER.size :][:name_length])
    known = not flags & _SIZES_FOLLOW
    if (
        written != info.orig_filename.encode('utf-8' if flags & _UTF8 else 'cp437', 'replace')
        or (flags, method) != (info.flag_bits, info.compress_type)
        or (known and crc != info.CRC)
        or (known and packed not in (info.compress_size, _IN_ZIP64))
        or (known and size not in (info.file_size, _IN_ZIP64))
        or entry.end > len(view)
    ):
        raise CheckpointError(f'the header of {info.orig_filename!r} contradicts the directory')
    stored = method == zipfile.ZIP_STORED and info.compress_size == info.file_size
    deflated = method == zipfile.ZIP_DEFLATED and info.file_size <= _MAX_RATIO * (info.compress_size + 1)
    if not (stored or deflated):
        raise CheckpointError(f'the size of {info.orig_filename!r} is impossible')
    return entry


def _check_content(view: memoryview, entries: list[_Entry]) -> None:
    if not any(entry.info.CRC for entry in entries):
        return  # saved under torch.serialization.set_crc32_options(False)
    with ThreadPoolExecutor() as pool:  # zlib releases the interpreter lock
        for entry, crc in zip(entries, pool.map(lambda entry: _compute_crc(view, entry), entries)):
            if crc != entry.info.CRC:
                raise CheckpointError(f'the content of {entry.info.orig_filename!r} does not match its CRC')
    own_id = next((entry for entry in entries if entry.info.filename.endswith(_ID)), None)
    if own_id is None:
        return
    written = bytes(view[own_id.begin : own_id.end])
    if own_id.info.compress_type == zipfile.ZIP_DEFLATED:
        written = zlib.decompress(written, -zlib.MAX_WBITS)
    others = [entry.info for entry in entries if entry is not own_id and entry.info.file_size]
    # torch before 2.6 sorted the numbers of the storages as text
    orders: tuple[Callable[[str], Any], ...] = (int, str)
    if written[20:] not in {b'%020d' % _combine_crcs(_order_crcs(others, order)) for order in orders}:
        raise CheckpointError('its entries are not those that torch wrote: they do not match the hash of their CRCs')


def _compute_crc(view: memoryview, entry: _Entry) -> int:
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


def _order_crcs(infos: list[zipfile.ZipInfo], order: Callable[[str], Any]) -> list[int]:
    """Return the CRCs in the order in which torch writes: pickle, information on the file, storages, version."""

    def position(info: zipfile.ZipInfo) -> tuple[int, Any]:
        storage, name = _STORAGE.fullmatch(info.filename), info.filename.split('/', 1)[-1]
        if storage:
            return 2, order(storage[1])
        return (0 if name == 'data.pkl' else 3 if name == 'version' else 1), name

    return [info.CRC for info in sorted(infos, key=position)]


def _combine_crcs(crcs: Iterable[int]) -> int:
    """Compute the hash of CRCs that torch writes into the archive."""
    combined = 0
    for crc in crcs:
        combined ^= (crc + 0x9E3779B9 + (combined << 6) + (combined >> 2)) & (2**64 - 1)
    return combined


class _File(io.RawIOBase):
    """A file object that reads from a memoryview without copying it."""

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
            raise OSError('negative position')
        self._at = at
        return at

    def tell(self) -> int:
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        end = len(self._view) if size is None or size < 0 else self._at + size
        part = bytes(self._view[self._at : end])
        self._at += len(part)
        return part
