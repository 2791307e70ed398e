"""Seeded ways to damage a checkpoint file: its bytes, the entries of a zip archive, a header or a pickle."""

import io
import json
import random
import struct
import zipfile
from collections.abc import Callable

from protuning_mm.weights.checksum import CHECKSUM_KEY

Damage = Callable[[bytes, random.Random], bytes]


# for any file


def one_bit(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def some_bytes(data: bytes, rng: random.Random) -> bytes:
    at, size = rng.randrange(len(data)), rng.randrange(1, 200)
    return data[:at] + rng.randbytes(len(data[at:][:size])) + data[at + size :]


def truncated(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.choice([0, 1, 7, 8, 30, len(data) - 1, rng.randrange(len(data))])]


def zeros(data: bytes, rng: random.Random) -> bytes:
    at, size = rng.randrange(len(data)), rng.randrange(1, 5000)
    return data[:at] + bytes(len(data[at:][:size])) + data[at + size :]


def blocks_swapped(data: bytes, rng: random.Random) -> bytes:
    size = 512
    first, second = sorted(rng.sample(range(len(data) // size), 2))
    a, b = data[first * size :][:size], data[second * size :][:size]
    return data[: first * size] + b + data[(first + 1) * size : second * size] + a + data[(second + 1) * size :]


def shifted(data: bytes, rng: random.Random) -> bytes:
    at, size = rng.randrange(len(data)), rng.choice([1, 4, 64])
    return rng.choice([data[:at] + data[at + size :], data[:at] + data[at:][:size] + data[at:]])


def appended(data: bytes, rng: random.Random) -> bytes:
    return data + rng.randbytes(rng.choice([1, 22, 500]))


# for a zip archive


def _entries(data: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(info.filename, archive.read(info)) for info in archive.infolist()]


def _packed(entries: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    """A new archive, with valid CRCs and without a checksum."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return file.getvalue()


def _storages(entries: list[tuple[str, bytes]], rng: random.Random) -> tuple[int, int]:
    """Choose two storages, of equal size if possible."""
    found = [i for i, (name, content) in enumerate(entries) if '/data/' in name and content]
    pairs = [(i, j) for i in found for j in found if i < j and len(entries[i][1]) == len(entries[j][1])]
    different = [(i, j) for i, j in pairs if entries[i][1] != entries[j][1]]
    first, second = rng.choice(different or pairs or [(found[0], found[1])])
    return first, second


def doubled_entry(data: bytes, rng: random.Random) -> bytes:
    """Appended as ``zip -g`` and zipfile do it: the archive's comment, our checksum, may stay."""
    file = io.BytesIO(data)
    entries = _entries(data)
    first, second = _storages(entries, rng)
    with zipfile.ZipFile(file, 'a') as archive:
        archive.writestr(entries[first][0], entries[second][1])
        if rng.random() < 0.5:
            archive.comment = b''
    return file.getvalue()


def contents_swapped(data: bytes, rng: random.Random) -> bytes:
    entries = _entries(data)
    first, second = _storages(entries, rng)
    (a, one), (b, two) = entries[first], entries[second]
    entries[first], entries[second] = (a, two), (b, one)
    return _packed(entries)


def names_swapped(data: bytes, rng: random.Random) -> bytes:
    """In place, in the headers and in the directory: all CRCs stay valid."""
    entries = _entries(data)
    first, second = _storages(entries, rng)
    a, b = entries[first][0].encode(), entries[second][0].encode()
    if len(a) != len(b):
        return contents_swapped(data, rng)
    return _renamed(_renamed(_renamed(data, a, b'\0' * len(a)), b, a), b'\0' * len(a), b)


def _renamed(data: bytes, old: bytes, new: bytes, most: int = 2) -> bytes:
    changed = bytearray(data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        directory = archive.start_dir
    for at in _headers(data, directory):
        begin = at + (30 if data[at : at + 4] == b'PK\3\4' else 46)
        if data[begin : begin + len(old) + 1].startswith(old) and most:
            length = struct.unpack_from('<H', data, at + (26 if data[at : at + 4] == b'PK\3\4' else 28))[0]
            if length == len(old):
                changed[begin : begin + len(old)] = new
                most -= 1
    return bytes(changed)


def _headers(data: bytes, directory: int) -> list[int]:
    """Positions of the headers of entries and of the records of the directory."""
    found, at = [], 0
    while (at := data.find(b'PK\3\4', at)) >= 0 and at < directory:
        found.append(at)
        at += 4
    at = directory
    while (at := data.find(b'PK\1\2', at)) >= 0:
        found.append(at)
        at += 4
    return found


def renamed_entry(data: bytes, rng: random.Random) -> bytes:
    """Only in the header, or everywhere."""
    name = rng.choice(_entries(data))[0].encode()
    return _renamed(data, name, name[:-1] + b'x', rng.choice([1, 2]))


def list_contradicts(data: bytes, rng: random.Random) -> bytes:
    """One field of one record of the directory: flags, method, CRC, sizes, lengths, offset."""
    changed = bytearray(data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        directory = archive.start_dir
    at = rng.choice([at for at in _headers(data, directory) if at >= directory])
    field, size = rng.choice([(8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (42, 4)])
    value = int.from_bytes(data[at + field :][:size], 'little')
    new = rng.choice([value + 1, value + 64, max(value - 1, 0), 0, 2 ** (8 * size) - 1, 2 ** (8 * size - 2)])
    changed[at + field : at + field + size] = (new % 2 ** (8 * size)).to_bytes(size, 'little')
    return bytes(changed)


def header_contradicts(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        at = rng.choice(archive.infolist()).header_offset
    field, size = rng.choice([(6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2)])
    value = int.from_bytes(data[at + field :][:size], 'little')
    new = rng.choice([value + 1, value + 64, 2 ** (8 * size) - 1, 2 ** (8 * size - 2)])
    changed[at + field : at + field + size] = (new % 2 ** (8 * size)).to_bytes(size, 'little')
    return bytes(changed)


def pickle_edited(data: bytes, rng: random.Random) -> bytes:
    """A type, a shape, a number or a name in the pickle, in a new archive with valid CRCs."""
    entries = _entries(data)
    at = next(i for i, (name, _) in enumerate(entries) if name.endswith('data.pkl'))
    name, text = entries[at]
    entries[at] = (name, _edited(text, rng))
    return _packed(entries)


def pickle_edited_in_place(data: bytes, rng: random.Random) -> bytes:
    """The same in a file of torch's old format, which is no archive."""
    return _edited(data, rng)


def _edited(text: bytes, rng: random.Random) -> bytes:
    """Edit a pickle; an edit that writes what was there is drawn again, because it damages nothing."""
    edited = text
    while edited == text:
        edited = _edited_at_random(text, rng)
    return edited


def _edited_at_random(text: bytes, rng: random.Random) -> bytes:
    kind = rng.choice(['type', 'number', 'name', 'opcode'])
    if kind == 'type':
        new = rng.choice([b'Double', b'Int', b'Half', b'Byte', b'QInt8', b'No'])
        return text.replace(b'FloatStorage', new + b'Storage', 1)
    if kind == 'opcode':
        return one_bit(text[:3000], rng) + text[3000:]
    marks = (b'K', b'M', b'J') if kind == 'number' else (b'X',)
    places = [i for i in range(min(len(text), 50000) - 8) if text[i : i + 1] in marks]
    at = rng.choice(places)
    changed = bytearray(text)
    if kind == 'number':
        changed[at + 1] = rng.choice([0, 1, 2, 255, (changed[at + 1] + 1) % 256])
    else:
        changed[at + 5] = rng.choice(b'abcxyz.')
    return bytes(changed)


def deflated(data: bytes, rng: random.Random) -> bytes:
    """A new compressed archive, with an impossible size of an entry."""
    packed = bytearray(_packed(_entries(data), zipfile.ZIP_DEFLATED))
    at = packed.find(b'PK\1\2')
    for _ in range(rng.randrange(3)):
        at = packed.find(b'PK\1\2', at + 4)
    packed[at + 24 : at + 28] = rng.choice([2**31 - 1, 2**32 - 2]).to_bytes(4, 'little')
    return bytes(packed)


# for a safetensors file


def _header(data: bytes) -> tuple[dict[str, object], bytes]:
    size = int.from_bytes(data[:8], 'little')
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def _with_header(header: dict[str, object] | bytes, tensors: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, 'little') + text + tensors


def header_edited(data: bytes, rng: random.Random) -> bytes:
    """One tensor's type, shape or offset; half of the time without the checksum."""
    header, tensors = _header(data)
    if rng.random() < 0.5 and '__metadata__' in header:
        header['__metadata__'].pop(CHECKSUM_KEY, None)  # type: ignore[attr-defined]
    name = rng.choice([name for name in header if name != '__metadata__'])
    entry: dict[str, object] = header[name]  # type: ignore[assignment]
    begin, end = entry['data_offsets']  # type: ignore[misc]
    shape: list[int] = entry['shape']  # type: ignore[assignment]
    edits: list[dict[str, object]] = [
        dict(dtype=rng.choice(['I32', 'F16', 'F64', 'U8', 'F99', 'F4', 'F8_E8M0', 'C64', 7])),
        dict(shape=rng.choice([[*shape, 2], shape[::-1], [2**40], [2**62, 4], [-1], 'wide', [0], [1.5]])),
        dict(data_offsets=rng.choice([[begin, end + 4], [0, end - begin], [end, begin], [2**60, 2**61], [begin]])),
    ]
    entry.update(rng.choice(edits))
    if rng.random() < 0.15:
        entry.pop(rng.choice(list(entry)))
    return _with_header(header, tensors)


def tensors_renamed(data: bytes, rng: random.Random) -> bytes:
    header, tensors = _header(data)
    first, second = rng.sample([name for name in header if name != '__metadata__'], 2)
    header[first], header[second] = header[second], header[first]
    return _with_header(header, tensors)


def header_damaged(data: bytes, rng: random.Random) -> bytes:
    header, tensors = _header(data)
    text = json.dumps(header).encode()
    meta: dict[str, object] = header.get('__metadata__') or {}  # type: ignore[assignment]
    kind = rng.randrange(7)
    if kind == 0:
        return (2 ** rng.choice([24, 31, 40, 62])).to_bytes(8, 'little') + data[8:]
    if kind == 1:
        return _with_header(text[: rng.randrange(len(text))], tensors)
    if kind == 2:
        return _with_header(b'[' * 5000 + b']' * 5000, tensors)
    if kind == 3:
        return _with_header(text.replace(b'{', b'{"\xff\xfe": 1,', 1), tensors)
    if kind == 4 and meta:
        meta.pop(CHECKSUM_KEY, None)
        meta['protuning_mm.meta'] = rng.choice(['{', '[]', '7', 'null', '{"epoch": "x"}', ''])
        return _with_header(header, tensors)
    if kind == 5:
        return _with_header({**header, '__metadata__': rng.choice([7, {'a': 1}, []])}, tensors)
    return _with_header(header, rng.choice([b'', tensors[:-1], tensors + b'1']))


OF_BYTES: list[Damage] = [one_bit, some_bytes, truncated, zeros, blocks_swapped, shifted, appended]
OF_ZIP: list[Damage] = [
    *OF_BYTES,
    doubled_entry,
    contents_swapped,
    names_swapped,
    renamed_entry,
    list_contradicts,
    header_contradicts,
    pickle_edited,
    deflated,
]
OF_SAFETENSORS: list[Damage] = [*OF_BYTES, header_edited, tensors_renamed, header_damaged]
OF_LEGACY: list[Damage] = [*OF_BYTES, pickle_edited_in_place]
