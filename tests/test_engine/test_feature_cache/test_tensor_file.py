"""Rows of tensors in ``.npy`` files: every bit, and the order in memory."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from protuning_mm.engine.feature_cache.tensor_file import TensorFileWriter, TensorLayout, as_stored, file_checksum

BATCHES = {
    'pooled': torch.randn(5, 7),
    'map': torch.randn(5, 4, 3, 2),
    'channels last': torch.randn(5, 4, 3, 2).to(memory_format=torch.channels_last),
    'one pixel, channels last': torch.randn(5, 4, 1, 1).to(memory_format=torch.channels_last),
    'tokens as a map': torch.randn(5, 6, 4).transpose(1, 2).reshape(5, 4, 3, 2),
    'half': torch.randn(5, 4, 3).half(),
    'bfloat16': torch.randn(5, 4, 3).bfloat16(),
    'double': torch.randn(5, 4).double(),
    'numbers': torch.arange(5),
    'not finite': torch.tensor([[float('nan'), -0.0], [float('inf'), 0.0]]).repeat(3, 1)[:5],
}


@pytest.mark.parametrize('name', BATCHES)
def test_round_trip(name: str, tmp_path: Path) -> None:
    batch = BATCHES[name]
    path, layout = tmp_path / 'x.npy', TensorLayout.of(batch[:2])
    with TensorFileWriter(path, layout, 5) as writer:
        writer.append(batch[:2])
        writer.append(batch[2:])
    assert writer.checksum == file_checksum(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    rows = np.load(path, mmap_mode='r')
    assert len(rows) == 5 and rows.nbytes == 5 * layout.bytes_per_row
    found = layout.read(rows, [4, 0, 0])
    expected = batch[[4, 0, 0]]
    assert found.dtype == batch.dtype and bits(found) == bits(expected)
    assert found.stride() == expected.stride() or 1 in batch.shape


def bits(x: Tensor) -> bytes:
    return x.contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def test_a_slice_of_tokens_becomes_dense() -> None:
    batch = torch.randn(5, 6, 4)[:, 0]
    stored = as_stored(batch)
    assert torch.equal(stored, batch) and stored.is_contiguous() and not batch.is_contiguous()


@pytest.mark.parametrize('other', [torch.zeros(1, 4, 3), torch.zeros(1, 4, 2).double(), torch.zeros(1, 8)])
def test_another_shape_or_type_is_refused(other: Tensor, tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match=r'where \(4, 2\), float32 is stored'),
        TensorFileWriter(tmp_path / 'x.npy', TensorLayout.of(torch.zeros(1, 4, 2)), 1) as writer,
    ):
        writer.append(other)
