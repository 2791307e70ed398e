"""Each hash catches something that no other hash catches.

A file that protuning_mm wrote is protected by one hash, the checksum of its bytes. A file of another program has no
such checksum, so the CRCs of its archive are checked instead. The other hashes protect tensors, not files.
"""

import io
import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.runner import load_checkpoint
from safetensors.torch import save_file

from protuning_mm.weights import CheckpointError, load_checkpoint_file
from protuning_mm.weights.checksum import append_checksum
from protuning_mm.weights.deltas import RECORD
from protuning_mm.weights.load import load_url
from protuning_mm.weights.write import write_checkpoint
from protuning_mm.weights.zip_file import check_zip
from tests.plain import fill, plain_resnet
from tests.test_weights.deltas import classifier, save_delta, trained
from tests.tiny import Weights

WEIGHT = torch.arange(1.0, 61.0)
COMMENT = 2 + len('protuning_mm.sha256 ') + 64  # the length field of the archive's comment, and the comment


def flip_bit_of_weight(path: Path) -> None:
    """Change the first element of ``WEIGHT`` in a file."""
    data = bytearray(path.read_bytes())
    data[data.index(WEIGHT.numpy().tobytes())] ^= 1
    path.write_bytes(data)


def saved_by_torch(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def test_crc_catches_a_flipped_bit_in_a_file_of_another_program(tmp_path: Path) -> None:
    """A file that ``torch.save`` wrote has no checksum, and torch loads it without checking the CRCs."""
    path = tmp_path / 'plain.pth'
    torch.save(dict(weight=WEIGHT), path)
    flip_bit_of_weight(path)
    assert not torch.equal(torch.load(path, weights_only=True)['weight'], WEIGHT)
    with pytest.raises(CheckpointError, match='does not match its CRC'):
        load_checkpoint_file(str(path))


def test_checksum_catches_an_edited_tensor_in_an_archive_with_valid_crcs(tmp_path: Path) -> None:
    """A program edits a tensor, writes valid CRCs and keeps the archive's comment, which holds the checksum."""
    path = tmp_path / 'whole.pth'
    write_checkpoint(dict(state_dict=dict(weight=WEIGHT)), path)
    edited = saved_by_torch(dict(state_dict=dict(weight=WEIGHT + 1)))
    path.write_bytes(edited[:-2] + path.read_bytes()[-COMMENT:])
    check_zip(path.read_bytes(), str(path))  # the archive is valid
    assert torch.equal(torch.load(path, weights_only=True)['state_dict']['weight'], WEIGHT + 1)
    with pytest.raises(CheckpointError, match='does not match its checksum'):
        load_checkpoint_file(str(path))


def test_checksum_catches_a_flipped_bit_in_safetensors(tmp_path: Path) -> None:
    """The format has no CRC: without our checksum, the changed tensor loads."""
    plain, ours = tmp_path / 'plain.safetensors', tmp_path / 'ours.safetensors'
    save_file(dict(weight=WEIGHT), plain)
    write_checkpoint(dict(state_dict=dict(weight=WEIGHT)), ours)
    flip_bit_of_weight(plain)
    flip_bit_of_weight(ours)
    assert not torch.equal(load_checkpoint_file(str(plain))['weight'], WEIGHT)
    with pytest.raises(CheckpointError, match='does not match its checksum'):
        load_checkpoint_file(str(ours))


def test_digests_catch_a_changed_tensor_in_a_delta_of_another_program(tmp_path: Path, weights: Weights) -> None:
    """Another program loads a delta, changes a tensor and saves the delta: valid CRCs, and no checksum."""
    path = save_delta(trained(weights('mmdet', depth=18)), tmp_path / 'delta.pth')
    content = torch.load(path, weights_only=True)
    content['state_dict']['head.bias'][0] += 1
    torch.save(content, path)
    check_zip(path.read_bytes(), str(path))
    with pytest.raises(CheckpointError, match='1 changed:\n    head.bias'):
        load_checkpoint(classifier(None), str(path))


def test_hash_of_the_record_catches_an_edited_record(tmp_path: Path, weights: Weights) -> None:
    """The digests in a record cover the tensors of a delta. Only the hash of the record covers the record itself."""
    path = save_delta(trained(weights('mmdet', depth=18)), tmp_path / 'delta.pth')
    content = torch.load(path, weights_only=True)
    record = bytes(content['state_dict'][RECORD].numpy())
    head, packed = record[:36], record[36:]  # the format and the hash; compressed JSON
    fields = json.loads(zlib.decompress(packed))
    fields['dataset_meta']['classes'] = ['dog', 'cat', 'bird']
    edited = zlib.compress(json.dumps(fields).encode())
    content['state_dict'][RECORD] = torch.frombuffer(bytearray(head + edited), dtype=torch.uint8)
    path.write_bytes(append_checksum(saved_by_torch(content)))  # valid CRCs and a valid checksum
    with pytest.raises(CheckpointError, match='record of this delta is damaged'):
        load_checkpoint(classifier(None), str(path))


def test_fingerprint_catches_another_base_in_a_valid_file(tmp_path: Path, weights: Weights) -> None:
    """The base's file was replaced by an undamaged file of a network of the same shape. No hash of a file can tell."""
    base = tmp_path / 'base.pth'
    shutil.copy(weights('mmdet', depth=18), base)
    path = save_delta(trained(str(base)), tmp_path / 'delta.pth')
    write_checkpoint(dict(state_dict=fill(plain_resnet('mmdet', depth=18), seed=78).state_dict()), base)
    load_checkpoint_file(str(base))
    with pytest.raises(CheckpointError, match='another network'):
        load_checkpoint(classifier(None), str(path))


def test_hash_in_a_file_name_catches_another_valid_file(tmp_path: Path) -> None:
    """A server sends an undamaged file, but not the one that was published under this name."""
    path = tmp_path / 'server' / 'resnet-deadbeef.pth'
    path.parent.mkdir()
    torch.save(dict(weight=WEIGHT), path)
    assert torch.equal(load_url(path.as_uri(), str(tmp_path / 'unchecked'), progress=False)['weight'], WEIGHT)
    with pytest.raises(RuntimeError, match='invalid hash value'):
        load_url(path.as_uri(), str(tmp_path / 'checked'), progress=False, check_hash=True)
    assert not list((tmp_path / 'checked').iterdir())
