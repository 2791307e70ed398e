"""The record of a delta: one tensor of bytes in its ``state_dict``, under the name :data:`RECORD`.

The loading functions of the host libraries pass only ``checkpoint['state_dict']`` to a model, so the record is a part
of it: four bytes that name the format, a SHA-256 of the rest, and compressed JSON.
"""

import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from protuning_mm.version import __version__
from protuning_mm.weights.errors import CheckpointError
from protuning_mm.weights.fingerprint import Fingerprint, fingerprint
from protuning_mm.weights.listing import listed

RECORD = 'protuning_delta'
_FORMAT = b'PTD1'
_HASH = 32
_MAX_TEXT = 2**26  # bytes of JSON; a network of 100,000 tensors needs a tenth of this


@dataclass(frozen=True)
class Base:
    """The frozen tensors that a delta was trained on.

    Args:
        source (str, optional): Where the tensors came from: a path, a scheme such as ``torchvision://resnet50``, or a
            timm model.
        prefix (str, optional): The prefix of the tensors' names in that file.
        frozen (dict[str, str]): The digest of each tensor, by its key in the backbone.
        tuning (list[dict]): The tunings, with all their settings.

    Raises:
        TypeError: an argument has another type; records come from untrusted files.
    """

    source: str | None
    prefix: str | None
    frozen: Mapping[str, str]
    tuning: list[dict[str, Any]]

    def __post_init__(self) -> None:
        _expect(isinstance(self.source, str | None) and isinstance(self.prefix, str | None))
        _expect(_is_text(self.frozen) and isinstance(self.tuning, list))
        _expect(all(isinstance(each, dict) and isinstance(each.get('type'), str) for each in self.tuning))

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint(self.frozen)

    def __str__(self) -> str:
        return f'{self.source} (fingerprint {self.fingerprint.total[:12]}, {len(self.frozen)} tensors)'


@dataclass(frozen=True)
class DeltaRecord:
    """The bases of a delta, the digests of its tensors, and the data set that it was trained on.

    Args:
        bases (dict[str, Base]): The base of each backbone, by the backbone's name in the model.
        stored (dict[str, str]): The digest of each tensor in the delta, by its name in the model.
        dataset_meta (dict): The data set's ``metainfo``: classes, palette, ….
        version (str): The version of this package that wrote the delta. Defaults to the present one.

    Raises:
        TypeError: an argument has another type; records come from untrusted files.
    """

    bases: Mapping[str, Base]
    stored: Mapping[str, str]
    dataset_meta: Mapping[str, Any]
    version: str = __version__

    def __post_init__(self) -> None:
        _expect(_is_text(self.stored) and isinstance(self.version, str) and isinstance(self.dataset_meta, Mapping))

    def to_tensor(self) -> Tensor:
        """Convert to a tensor of bytes, uint8."""
        text = to_json(asdict(self))
        packed = zlib.compress(text.encode())
        content = _FORMAT + hashlib.sha256(packed).digest() + packed
        return torch.frombuffer(bytearray(content), dtype=torch.uint8)

    @classmethod
    def from_tensor(cls, tensor: Tensor) -> 'DeltaRecord':
        """Read a record.

        Args:
            tensor (Tensor): The tensor that :meth:`to_tensor` returned.

        Raises:
            CheckpointError: the record is damaged, or has a format that this version does not know.
        """
        is_bytes = isinstance(tensor, Tensor) and tensor.dtype == torch.uint8
        content = tensor.cpu().numpy().tobytes() if is_bytes else b''
        head, hashed, packed = content[: len(_FORMAT)], content[len(_FORMAT) :][:_HASH], content[len(_FORMAT) + _HASH :]
        if head != _FORMAT and head[:3] == _FORMAT[:3]:
            raise CheckpointError(
                f'this delta is of format {head[3:].decode(errors="replace")}, and version {__version__} of '
                f'protuning_mm reads format {_FORMAT[3:].decode()}: install the version that wrote it, or a newer one'
            )
        if head != _FORMAT or hashlib.sha256(packed).digest() != hashed:
            raise CheckpointError('the record of this delta is damaged; copy or download the file again')
        try:
            fields = json.loads(zlib.decompressobj().decompress(packed, _MAX_TEXT))
            record = cls(**{**fields, 'bases': {name: Base(**base) for name, base in fields['bases'].items()}})
            _expect(isinstance(record.dataset_meta.get('classes'), list | None))
            return record
        except (zlib.error, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise CheckpointError('the record of this delta was not written by protuning_mm') from None

    def check(self, state: Mapping[str, Tensor], whole: bool = False) -> None:
        """Check that tensors are those that were stored.

        Args:
            state (Mapping[str, Tensor]): The delta's tensors by name, without the record.
            whole (bool): Whether all tensors must exist. A model may load fewer, if a head is initialised anew.
                Defaults to False.

        Raises:
            CheckpointError: lists tensors that differ from the record, are not in it, or are missing.
        """
        found = fingerprint({name: value for name, value in state.items() if isinstance(value, Tensor)})
        changed = [name for name in state if self.stored.get(name) not in (found.digests.get(name, ''), None)]
        unknown = [name for name in state if name not in self.stored]
        missing = [name for name in self.stored if name not in state] if whole else []
        if changed or unknown or missing:
            raise CheckpointError(
                'this delta does not match its own record:'
                + listed('changed', changed)
                + listed('not in the record', unknown)
                + listed('missing', missing)
                + '\nIt is damaged or was edited; copy or download the file again.'
            )


def _expect(holds: bool) -> None:
    if not holds:
        raise TypeError('a part of the record has another type')


def _is_text(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(text, str) for pair in value.items() for text in pair)


def to_json(value: Any) -> str:
    """Convert to compact JSON, with numpy arrays as lists."""
    return json.dumps(value, default=_to_plain, separators=(',', ':'))


def check_deltas(checkpoint: Mapping[str, Any]) -> None:
    """Check every state dict with a record in a loaded checkpoint.

    Args:
        checkpoint (Mapping): The checkpoint.

    Raises:
        CheckpointError: tensors are not those that were stored.
    """
    for state in (checkpoint, *checkpoint.values()):
        names = [name for name in state if _is_record(name)] if isinstance(state, Mapping) else []
        for name in names:
            lead = name[: -len(RECORD)]
            tensors = {k[len(lead) :]: v for k, v in state.items() if str(k).startswith(lead) and k != name}
            DeltaRecord.from_tensor(state[name]).check(tensors, whole=True)


def _is_record(name: Any) -> bool:
    return isinstance(name, str) and (name == RECORD or name.endswith(f'.{RECORD}'))


def _to_plain(value: Any) -> Any:
    """Convert values of data sets and configs that JSON does not support."""
    if hasattr(value, 'tolist'):  # numpy's and torch's
        return value.tolist()
    if isinstance(value, set | frozenset):
        return sorted(value)
    return str(value)
