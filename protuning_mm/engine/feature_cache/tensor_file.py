"""A ``.npy`` file with one row for each sample, written row by row and read through a memory map."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor

_LENGTH = 1 << 22  # bytes read at once
_FORMAT: Any = np.lib.format


@dataclass(frozen=True)
class TensorLayout:
    """Type, shape and order in memory of one sample's feature.

    The order is kept, because convolutions and products on another one may round differently.

    Args:
        dtype (str): Name of the torch type.
        shape (tuple[int]): Shape without the batch dimension, in the order in memory.
        order (tuple[int]): Position in memory of each dimension, the batch dimension first.
    """

    dtype: str
    shape: tuple[int, ...]
    order: tuple[int, ...]

    @classmethod
    def of(cls, batch: Tensor) -> 'TensorLayout':
        """Describe the rows of a batch (N, …); dimensions that share memory are stored one by one."""
        strides = batch.stride()
        rest = sorted(range(1, batch.dim()), key=lambda dim: (-strides[dim], dim))
        order = (0, *rest)
        shape = tuple(batch.shape[dim] for dim in rest)
        return cls(str(batch.dtype).removeprefix('torch.'), shape, tuple(order.index(i) for i in range(len(order))))

    @property
    def torch_dtype(self) -> torch.dtype:
        found = getattr(torch, self.dtype)
        assert isinstance(found, torch.dtype)
        return found

    @property
    def bytes_per_row(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.torch_dtype.itemsize

    @property
    def numpy_dtype(self) -> Any:
        """The type in the file: numpy has no bfloat16, so 16-bit floats are stored as integers of the same bits."""
        name = f'int{8 * self.torch_dtype.itemsize}' if self.dtype == 'bfloat16' else self.dtype
        return np.dtype(name)

    def to_rows(self, batch: Tensor) -> Any:
        """Return a batch as an array (N, …) in the order of the file.

        Raises:
            ValueError: the batch has another type or shape than the file.
        """
        expected = tuple(self.shape[i - 1] for i in self.order[1:])
        if tuple(batch.shape[1:]) != expected or batch.dtype != self.torch_dtype:
            raise ValueError(f'{tuple(batch.shape[1:])}, {batch.dtype}, where {expected}, {self.dtype} is stored')
        ordered = batch.detach().cpu().permute(torch.tensor(self.order).argsort().tolist()).contiguous()
        return ordered.view(torch.int16).numpy() if self.dtype == 'bfloat16' else ordered.numpy()

    def read(self, rows: Any, indices: Sequence[int]) -> Tensor:
        """Gather rows of an array into a batch in the original order of memory."""
        batch = torch.empty((len(indices), *self.shape), dtype=self.torch_dtype)  # aligned, unlike numpy's memory
        flat = batch.view(torch.int16).numpy() if self.dtype == 'bfloat16' else batch.numpy()
        for i, index in enumerate(indices):
            flat[i] = rows[index]
        return batch.permute(self.order)


def as_stored(batch: Tensor) -> Tensor:
    """Return what a batch becomes by being stored and read: equal values, dense in memory."""
    layout = TensorLayout.of(batch)
    return layout.read(layout.to_rows(batch), range(len(batch))).to(batch.device)


class TensorFileWriter:
    """Writes a ``.npy`` file in order, and computes its SHA-256 meanwhile.

    Args:
        path (Path): The file.
        layout (TensorLayout): Layout of the rows.
        number (int): Number of rows.
    """

    def __init__(self, path: Path, layout: TensorLayout, number: int) -> None:
        self.layout = layout
        self._hash = hashlib.sha256()
        self._file = path.open('wb')
        shape = (number, *layout.shape)
        header = dict(descr=_FORMAT.dtype_to_descr(layout.numpy_dtype), fortran_order=False, shape=shape)
        _FORMAT.write_array_header_1_0(self, header)

    def write(self, data: Any) -> None:
        self._hash.update(data)
        self._file.write(data)

    def append(self, batch: Tensor) -> None:
        """Append the rows of a batch (N, …)."""
        rows = self.layout.to_rows(batch)
        if rows.size:
            self.write(memoryview(rows).cast('B'))

    @property
    def checksum(self) -> str:
        return self._hash.hexdigest()

    def __enter__(self) -> 'TensorFileWriter':
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self._file.flush()
            os.fsync(self._file.fileno())
        self._file.close()


def file_checksum(path: Path) -> str:
    """Return the SHA-256 of a file."""
    found = hashlib.sha256()
    with path.open('rb') as file:
        while part := file.read(_LENGTH):
            found.update(part)
    return found.hexdigest()
