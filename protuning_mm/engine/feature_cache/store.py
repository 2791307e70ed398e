"""Stored features of a training set in a folder: a file for each tensor, the data samples, and their description."""

import json
import mmap
import shutil
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from protuning_mm.data import DataError
from protuning_mm.engine.feature_cache.sample_content import SampleReader, SampleWriter
from protuning_mm.engine.feature_cache.tensor_file import TensorFileWriter, TensorLayout, file_checksum
from protuning_mm.weights.atomic import write_atomically

_VERSION = 1
_DESCRIPTION = 'features.json'  # written last
_LINES, _BYTES = 'samples.jsonl', 'samples.bin'


class FeatureStore:
    """Reads stored features and data samples.

    Args:
        folder (Path): Folder that :func:`write_store` has written. Its files are compared with their checksums.

    Attributes:
        identity (dict[str, str]): What the features depend on.

    Raises:
        DataError: a file is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            described = json.loads((folder / _DESCRIPTION).read_text())
            if described['version'] != _VERSION:
                raise DataError(f'{folder} has the format {described["version"]}, not {_VERSION}')
            for name, checksum in described['checksums'].items():
                if file_checksum(folder / name) != checksum:
                    raise DataError(f'{folder / name} is damaged: its content does not match its checksum')
            self.identity: dict[str, str] = described['identity']
            self.layouts = [
                TensorLayout(each['dtype'], tuple(each['shape']), tuple(each['order'])) for each in described['layouts']
            ]
            self.names: list[str] = described['names']
            self._rows = [np.load(folder / f'{name}.npy', mmap_mode='r') for name in self.names]
            self._lines = (folder / _LINES).read_text().splitlines()
            self._bytes = _map_bytes(folder / _BYTES)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f'{folder} cannot be read: {error}') from None

    def __len__(self) -> int:
        return len(self._lines)

    def read(self, indices: Sequence[int]) -> list[Tensor]:
        """Return the features of samples: for each tensor a batch (N, …)."""
        return [layout.read(rows, indices) for layout, rows in zip(self.layouts, self._rows)]

    def read_samples(self, indices: Sequence[int], classes: dict[str, type]) -> list[Any]:
        """Return new data samples."""
        reader = SampleReader(self._bytes, classes)
        return [reader.decode(self._lines[i]) for i in indices]

    @property
    def nbytes(self) -> int:
        return sum(rows.nbytes for rows in self._rows)


def _map_bytes(path: Path) -> Any:
    with path.open('rb') as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b''


def write_store(
    folder: Path,
    identity: dict[str, str],
    names: Sequence[str],
    layouts: Sequence[TensorLayout],
    number: int,
    batches: Iterable[tuple[Sequence[Tensor], Sequence[Any]]],
) -> None:
    """Write features and data samples; the folder appears when it is complete.

    Args:
        folder (Path): The folder. If it exists, it is replaced.
        identity (dict[str, str]): What the features depend on.
        names (Sequence[str]): Names of the tensors.
        layouts (Sequence[TensorLayout]): Their layouts.
        number (int): Number of samples.
        batches (Iterable): Features and data samples of batches, in order.

    Raises:
        DataError: a sample cannot be stored, or features of another shape follow.
        OSError: the disk is full or the folder is not writable. No incomplete folder is left.
    """
    partial = folder.with_name(f'.{folder.name}.part')
    shutil.rmtree(partial, ignore_errors=True)  # of a killed run
    partial.mkdir(parents=True)
    try:
        with ExitStack() as stack:
            writers = [
                stack.enter_context(TensorFileWriter(partial / f'{name}.npy', layout, number))
                for name, layout in zip(names, layouts)
            ]
            content = stack.enter_context((partial / _BYTES).open('wb'))
            encoder, lines = SampleWriter(content.write), []
            for features, samples in batches:
                for writer, batch in zip(writers, features):
                    try:
                        writer.append(batch)
                    except ValueError as error:
                        raise DataError(_other_shape(error)) from None
                lines += [encoder.encode(sample) for sample in samples]
        (partial / _LINES).write_text(''.join(f'{line}\n' for line in lines))
        checksums = {f'{name}.npy': writer.checksum for name, writer in zip(names, writers)}
        checksums |= {name: file_checksum(partial / name) for name in (_LINES, _BYTES)}
        described = dict(
            version=_VERSION, identity=identity, names=list(names), layouts=[vars(each) for each in layouts],
            checksums=checksums,
        )  # fmt: skip
        write_atomically(json.dumps(described, indent=1).encode(), partial / _DESCRIPTION)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _other_shape(error: ValueError) -> str:
    return (
        f'cache_features: the features of the training images have several shapes ({error}). Images must have one '
        'size: resize or crop them in train_dataloader.dataset.pipeline, as by dict(type="Resize", scale=(224, 224)), '
        'or train without cache_features'
    )


def read_identities(folder: Path) -> list[dict[str, str]]:
    """Return what the features in the subfolders of a folder depend on."""
    found = []
    for path in sorted(folder.glob(f'*/{_DESCRIPTION}')):
        try:
            found.append(dict(json.loads(path.read_text())['identity']))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found
