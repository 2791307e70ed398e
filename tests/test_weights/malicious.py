"""Checkpoints that contain callables: pickles assembled from opcodes, in every format that ``torch.load`` reads."""

import io
import pickle
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch.serialization import MAGIC_NUMBER, PROTOCOL_VERSION

CANARY = ('tests.canary', 'sing')
# Globals that the restricted unpickler does not allow …
UNKNOWN = (
    *(CANARY, ('os', 'system'), ('posix', 'system'), ('subprocess', 'getoutput'), ('builtins', 'eval')),
    *(('builtins', 'exec'), ('builtins', '__import__'), ('functools', 'partial'), ('operator', 'attrgetter')),
    *(('torch.hub', 'load'), ('torch.storage', '_load_from_bytes'), ('torch', 'load'), ('numpy', 'load')),
    *(('mmengine.config', 'Config'), ('mmengine.registry.registry', 'Registry'), ('pickle', 'loads')),
    *(('tests.canary', 'calls'), ('numpy.core.multiarray', 'fromstring'), ('collections', 'defaultdict')),
)
# … and globals that it returns or calls: none of them is a tensor, a number or text.
KNOWN = (
    *(('torch._utils', '_rebuild_tensor_v2'), ('torch._utils', '_rebuild_parameter'), ('_codecs', 'encode')),
    *(('torch._tensor', '_rebuild_from_type_v2'), ('torch.serialization', '_get_layout'), ('torch', 'FloatStorage')),
    *(('collections', 'OrderedDict'), ('collections', 'Counter'), ('builtins', 'set'), ('builtins', 'bytearray')),
    *(('torch', 'Tensor'), ('torch', 'FloatTensor'), ('torch', 'device'), ('torch', 'Size'), ('builtins', 'slice')),
    *(('torch.nn.parameter', 'Parameter'), ('numpy', 'ndarray'), ('numpy', 'dtype'), ('builtins', 'getattr')),
    *(('numpy.core.multiarray', '_reconstruct'), ('numpy._core.multiarray', 'scalar'), ('torch', 'per_tensor_affine')),
    *(('mmengine.logging.history_buffer', 'HistoryBuffer'), ('numpy.dtypes', 'Float64DType')),
)
METHODS = ('min', 'mean', 'current', 'update', 'statistics', 'register_statistics')


def text(value: str) -> bytes:
    data = value.encode()
    return b'X' + struct.pack('<I', len(data)) + data


def name(known: tuple[str, str]) -> bytes:
    return b'c%s\n%s\n' % tuple(part.encode() for part in known)


def mapping(*pairs: bytes) -> bytes:
    return b'}(' + b''.join(pairs) + b'u'


def tuple_of(*items: bytes) -> bytes:
    return b'(' + b''.join(items) + b't'


BENIGN = b'G' + struct.pack('>d', 0.5)
ORDERED = name(('collections', 'OrderedDict')) + b')R'
ONE_TENSOR = name(('torch', 'Tensor')) + b')R'
BUFFER = name(('mmengine.logging.history_buffer', 'HistoryBuffer'))
FLOAT64 = name(('numpy', 'dtype')) + tuple_of(text('f8'), b'\x89', b'\x88') + b'R'

# Opcodes that name `it`, call it or pass it to something.
FORMS: dict[str, Callable[[tuple[str, str]], bytes]] = {
    'GLOBAL': name,
    'STACK_GLOBAL': lambda it: text(it[0]) + text(it[1]) + b'\x93',
    'INST': lambda it: b'(' + text('touch x') + b'i%s\n%s\n' % tuple(part.encode() for part in it),
    'OBJ': lambda it: b'(' + name(it) + text('touch x') + b'o',
    'NEWOBJ': lambda it: name(it) + tuple_of(text('touch x')) + b'\x81',
    'NEWOBJ_EX': lambda it: name(it) + tuple_of(text('touch x')) + b'}\x92',
    'REDUCE': lambda it: name(it) + tuple_of(text('touch x')) + b'R',
    'REDUCE twice': lambda it: name(it) + tuple_of(text('touch x')) + b'R' + tuple_of() + b'R',
    'BUILD of an object': lambda it: name(it) + b')\x81' + mapping(text('a'), BENIGN) + b'b',
    'EXT1': lambda it: b'\x82\x01',
    'EXT2': lambda it: b'\x83\x01\x01',
    'EXT4': lambda it: b'\x84\x01\x01\x01\x01',
    'PERSID': lambda it: b'P%s\n' % it[1].encode(),
    'BINPERSID of a function': lambda it: name(it) + b'Q',
    'BINPERSID of a module': lambda it: tuple_of(text('module'), name(it), text('x.py'), text('source')) + b'Q',
    'BINPERSID of a storage': lambda it: tuple_of(text('storage'), name(it), text('0'), text('cpu'), b'K\x01') + b'Q',
    'attribute of a dict': lambda it: ORDERED + mapping(text('_metadata'), name(it)) + b'b',
    'method of a dict': lambda it: ORDERED + mapping(text('items'), name(it)) + b'b',
    'method of a tensor': lambda it: (
        name(('torch._tensor', '_rebuild_from_type_v2'))
        + tuple_of(name(('torch', 'Tensor')), name(('torch', 'Tensor')), b')', mapping(text('detach'), name(it)))
        + b'R'
    ),
    'attribute of a tensor': lambda it: (
        name(('torch._tensor', '_rebuild_from_type_v2'))
        + tuple_of(name(('torch', 'Tensor')), name(('torch', 'Tensor')), b')', mapping(text('note'), name(it)))
        + b'R'
    ),
    'hooks of a parameter': lambda it: (
        name(('torch._utils', '_rebuild_parameter')) + tuple_of(ONE_TENSOR, b'\x88', mapping(b'K\x01', name(it))) + b'R'
    ),
    'a function of a buffer': lambda it: (
        BUFFER + b')\x81' + mapping(text('statistics_methods'), mapping(text('mean'), name(it))) + b'b'
    ),
    'a part of a buffer': lambda it: BUFFER + b')R' + mapping(text('_log_history'), name(it)) + b'b',
    'element of an array': lambda it: (
        name(('numpy.core.multiarray', '_reconstruct'))
        + tuple_of(name(('numpy', 'ndarray')), tuple_of(b'K\x00'), text('b'))
        + b'R'
        + tuple_of(
            b'K\x01',
            tuple_of(b'K\x01'),
            name(('numpy', 'dtype')) + tuple_of(text('O8'), b'\x89', b'\x88') + b'R',
            b'\x89',
            b'](' + name(it) + b'e',
        )
        + b'b'
    ),
    'scalar of objects': lambda it: (
        name(('numpy.core.multiarray', 'scalar'))
        + tuple_of(name(('numpy', 'dtype')) + tuple_of(text('O8'), b'\x89', b'\x88') + b'R', name(it))
        + b'R'
    ),
    'a dtype of fields': lambda it: (
        FLOAT64
        + tuple_of(
            b'K\x03',
            text('<'),
            b'N',
            tuple_of(text('a')),
            mapping(text('a'), tuple_of(name(('numpy', 'dtype')) + tuple_of(text('O8')) + b'R', b'K\x00')),
            *(b'K\x08', b'K\x08', b'K\x00'),
        )
        + b'b'
    ),
    'a slice': lambda it: name(('builtins', 'slice')) + tuple_of(name(it), b'N', b'N') + b'R',
}
# Forms that call: an allowed global makes a plain value there.
CALLING = ('INST', 'OBJ', 'NEWOBJ', 'NEWOBJ_EX', 'REDUCE', 'REDUCE twice', 'BUILD of an object')
STORAGE = ('torch', 'FloatStorage')

PLACES: dict[str, Callable[[bytes], tuple[bytes, bytes]]] = {
    'root': lambda evil: (text('evil'), evil),
    'meta': lambda evil: (text('meta'), mapping(text('epoch'), b'K\x01', text('dataset_meta'), evil)),
    'state_dict': lambda evil: (text('state_dict'), mapping(text('head.weight'), evil)),
    'optimizer': lambda evil: (text('optimizer'), mapping(text('state'), mapping(b'K\x00', evil))),
    'param_groups': lambda evil: (text('optimizer'), mapping(text('param_groups'), b'](' + evil + b'e')),
    'message_hub': lambda evil: (text('message_hub'), mapping(text('runtime_info'), mapping(text('note'), evil))),
    'log_scalars': lambda evil: (text('message_hub'), mapping(text('log_scalars'), mapping(text('train/loss'), evil))),
    'resume_state': lambda evil: (text('resume_state'), mapping(text('ranks'), b'](' + evil + b'e')),
    'deep': lambda evil: (text('meta'), mapping(text('a'), b'](' * 50 + evil + b'e' * 50)),
    'tuple': lambda evil: (text('meta'), mapping(text('a'), tuple_of(b'K\x01', evil))),
    'key': lambda evil: (text('meta'), mapping(evil, b'K\x01')),
    'key of a tuple': lambda evil: (text('meta'), mapping(tuple_of(evil), b'K\x01')),
}


def program(place: str, evil: bytes, protocol: int = 2) -> bytes:
    """The pickle of a checkpoint that holds ``evil`` in a place."""
    key, value = PLACES[place](evil)
    return b'\x80' + bytes([protocol]) + mapping(text('epochs'), b'K\x03', key, value) + b'.'


def new_zip(data: bytes, path: Path) -> None:
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_STORED) as archive:
        for entry, content in (('data.pkl', data), ('byteorder', b'little'), ('data/0', bytes(4)), ('version', b'3\n')):
            archive.writestr(f'archive/{entry}', content)


def old_zip(data: bytes, path: Path) -> None:
    """As torch 1.6 wrote them."""
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_STORED) as archive:
        for entry, content in (('data.pkl', data), ('data/0', bytes(4)), ('version', b'2\n')):
            archive.writestr(f'archive/{entry}', content)


def legacy(data: bytes, path: Path) -> None:
    """As torch wrote them before 1.6: pickles one after another."""
    system = dict(protocol_version=PROTOCOL_VERSION, little_endian=True, type_sizes=dict(short=2, int=4, long=4))
    head = [pickle.dumps(each, 2) for each in (MAGIC_NUMBER, PROTOCOL_VERSION, system)]
    path.write_bytes(b''.join([*head, data, pickle.dumps([], 2)]))


def legacy_tar(data: bytes, path: Path) -> None:
    """As torch wrote them before 0.1.10."""
    with tarfile.open(path, 'w') as archive:
        for entry, content in (('storages', pickle.dumps(0, 2)), ('tensors', pickle.dumps(0, 2)), ('pickle', data)):
            info = tarfile.TarInfo(entry)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


FORMATS: dict[str, Callable[[bytes, Path], None]] = {
    'new zip': new_zip,
    'old zip': old_zip,
    'legacy': legacy,
    'legacy tar': legacy_tar,
    'bare pickle': lambda data, path: path.write_bytes(data) and None,
}


@dataclass(frozen=True)
class Malicious:
    """One file."""

    form: str
    it: tuple[str, str]
    place: str
    format: str
    protocol: int = 2

    @property
    def pickle(self) -> bytes:
        return program(self.place, FORMS[self.form](self.it), self.protocol)

    def write(self, path: Path) -> None:
        FORMATS[self.format](self.pickle, path)

    def __str__(self) -> str:
        return f'{self.form} {".".join(self.it)} in {self.place}, {self.format}, protocol {self.protocol}'


def all_files(seed: int = 0) -> list[Malicious]:
    """Each form with each callable, in a place and a format that are drawn at random."""
    draw, found = random.Random(seed), []
    for form in FORMS:
        called = [*UNKNOWN, *(() if form in CALLING else KNOWN)]
        if form == 'BINPERSID of a storage':
            called = [it for it in called if it[1] != 'FloatStorage']
        for it in called:
            place, kind = draw.choice(list(PLACES)), draw.choice(list(FORMATS))
            found.append(Malicious(form, it, place, kind, draw.choice([2, 2, 2, 3, 4])))
    return found
