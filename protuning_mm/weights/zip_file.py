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
from typing import Any, NamedTuple

from protuning_mm.weights.errors import CheckpointError

ZIP = b'PK\x03\x04'  # the first bytes of an archive of torch
Buffer = bytes | mmap.mmap

_HEADER = struct.Struct('<4s5H3I2H')  # the header before an entry's data
_SIZES_FOLLOW = 8  # flag: CRC and sizes were not known when the header was written, and are zeros in it
_UTF8 = 0x800
_IN_ZIP64 = 2**32 - 1  # a size that is stored in an extra field
_MAX_RATIO = 1032  # the highest compression ratio of deflate
_STORAGE = re.compile(r'.*/data/(\d+)')
_ID = '.data/serialization_id'


class _Entry(NamedTuple):
    """An entry of the central directory, and where its data begin and end."""

    info: zipfile.ZipInfo
    begin: int
    end: int


def check_zip(data: Buffer, name: str) -> None:
    """Check a zip archive that ``torch.save`` or another program wrote.

    Entries must have different names and must not overlap. Headers must agree with the central directory, and contents
    with their CRCs. From torch 2.1 on, an archive contains a hash of the CRCs of its entries, which must agree too.

    Args:
        data (bytes | mmap): The whole file. A file that does not begin as a zip archive is not checked.
        name (str): The name of the file, for the error.

    Raises:
        CheckpointError: the file is damaged.
    """
    if bytes(data[:4]) != ZIP:
        return
    with memoryview(data) as view:
        try:
            entries = _read_directory(data, view)
            _check_content(view, entries)
        except CheckpointError as error:
            raise CheckpointError(
                f'{name} cannot be read as a checkpoint ({len(view)} bytes): {error}. It is damaged or truncated; copy '
                'or download it again.'
            ) from None


def _read_directory(data: Buffer, view: memoryview) -> list[_Entry]:
    """Read the entries of the central directory, in the order of their data."""
    try:
        # not a BytesIO of a mapped file, which would be a copy
        with zipfile.ZipFile(io.BytesIO(data) if isinstance(data, bytes) else data) as archive:  # type: ignore[arg-type]
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
    entry = _Entry(info, begin, begin + info.compress_size)
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
    others = [entry.info for entry in entries if entry is not own_id and entry.info.file_size]
    # torch before 2.6 sorted the numbers of the storages as text
    orders: tuple[Callable[[str], Any], ...] = (int, str)
    written = bytes(_read(view, own_id))[20:]
    if written not in {b'%020d' % _combine_crcs(_order_crcs(others, order)) for order in orders}:
        raise CheckpointError('its entries are not those that torch wrote: they do not match the hash of their CRCs')


def _compute_crc(view: memoryview, entry: _Entry) -> int:
    try:
        content = _read(view, entry)
    except zlib.error:
        return -1
    return zlib.crc32(content) if len(content) == entry.info.file_size else -1


def _read(view: memoryview, entry: _Entry) -> bytes | memoryview:
    """Return an entry's content, or one byte more than its stated size if there is more."""
    data = view[entry.begin : entry.end]
    if entry.info.compress_type == zipfile.ZIP_STORED:
        return data
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, entry.info.file_size + 1)


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
