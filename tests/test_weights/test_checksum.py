"""The checksum: every change of a file is detected before it is unpickled, and other programs read the files."""

import io
import random
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from protuning_mm.weights import CheckpointError, load_checkpoint_file
from protuning_mm.weights.checksum import append_checksum, verify_checksum
from protuning_mm.weights.write import write_checkpoint

CHECKPOINT = dict(
    state_dict={'a.weight': torch.arange(60.0).reshape(3, 20), 'b': torch.tensor(7)}, meta=dict(epoch=3, note='ünïcode')
)


@pytest.fixture(params=['.pth', '.safetensors'])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f'a file{request.param}'
    write_checkpoint(CHECKPOINT, path)
    return path


def test_reads_as_it_was_written(path: Path) -> None:
    assert verify_checksum(path)
    got = load_checkpoint_file(str(path))
    assert got['meta'] == CHECKPOINT['meta']
    assert list(got['state_dict']) == list(CHECKPOINT['state_dict'])
    assert all(torch.equal(got['state_dict'][k], t) for k, t in CHECKPOINT['state_dict'].items())


def test_other_programs_read_it(path: Path) -> None:
    if path.suffix == '.pth':
        state = torch.load(path, weights_only=True)['state_dict']
        assert torch.equal(torch.load(path, weights_only=True, mmap=True)['state_dict']['b'], torch.tensor(7))
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
    else:
        state = load_file(path)
        with safe_open(path, 'pt') as file:
            assert file.metadata()['format'] == 'pt'
    assert torch.equal(state['a.weight'], CHECKPOINT['state_dict']['a.weight'])


def test_every_changed_bit_is_detected(path: Path) -> None:
    """Every bit of the first and last 300 bytes, and 300 seeded bits in between."""
    whole = path.read_bytes()
    rng = random.Random(0)
    edges = [*range(300), *range(len(whole) - 300, len(whole))]
    bits = [(at, bit) for at in edges for bit in range(8)]
    bits += [(rng.randrange(len(whole)), rng.randrange(8)) for _ in range(300)]
    for at, bit in bits:
        data = bytearray(whole)
        data[at] ^= 1 << bit
        path.write_bytes(bytes(data))
        with pytest.raises(CheckpointError):
            load_checkpoint_file(str(path))


@pytest.mark.parametrize('cut', [1, 10, 22, 64, 90, 0.5, 0.99])
def test_truncated(cut: float, path: Path) -> None:
    whole = path.read_bytes()
    left = len(whole) - cut if cut >= 1 else int(len(whole) * cut)
    path.write_bytes(whole[: int(left)])
    with pytest.raises(CheckpointError):
        load_checkpoint_file(str(path))


def test_appended(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b'more')
    with pytest.raises(CheckpointError):
        load_checkpoint_file(str(path))


def test_files_of_other_programs_have_no_checksum(tmp_path: Path) -> None:
    for name, options in (('new.pth', {}), ('old.pth', dict(_use_new_zipfile_serialization=False))):
        torch.save(CHECKPOINT, tmp_path / name, **options)
        assert not verify_checksum(tmp_path / name)
        assert load_checkpoint_file(str(tmp_path / name))['meta'] == CHECKPOINT['meta']


def test_open_file_keeps_its_position(path: Path) -> None:
    if path.suffix != '.pth':
        pytest.skip('safetensors are opened by path')
    with path.open('rb') as file:
        assert verify_checksum(file) and file.tell() == 0


def test_a_checksum_is_added_once() -> None:
    file = io.BytesIO()
    torch.save(CHECKPOINT, file)
    once = append_checksum(file.getvalue())
    assert append_checksum(once) == once != file.getvalue()
    assert append_checksum(b'no archive') == b'no archive'


def test_error_names_the_file_and_a_remedy(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(bytes(data))
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint_file(str(path))
    assert str(path) in str(caught.value) and 'copy or download it again' in str(caught.value)


@pytest.mark.parametrize('name', ['x.bin', 'x'])
def test_ending(name: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r'must end in .pth or .safetensors'):
        write_checkpoint(CHECKPOINT, tmp_path / name)
    with pytest.raises(CheckpointError, match='optimizer'):
        write_checkpoint({**CHECKPOINT, 'optimizer': {}}, tmp_path / 'x.safetensors')
    assert not list(tmp_path.iterdir())
