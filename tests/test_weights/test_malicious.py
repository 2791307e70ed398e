"""A callable in a checkpoint is refused, whether or not it would be called, and none is called."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import load_checkpoint
from torch import nn

from protuning_mm.weights import CheckpointError, load_checkpoint_file, safe_torch_load
from protuning_mm.weights.content import check_content
from tests import canary
from tests.test_weights.malicious import BENIGN, FORMATS, PLACES, Malicious, all_files, program

FILES = all_files()
STATISTICS = dict(HistoryBuffer()._statistics_methods)

pytestmark = pytest.mark.filterwarnings('ignore:Detected pickle protocol')


def refused(file: Malicious, path: Path) -> str:
    file.write(path)
    try:
        loaded = safe_torch_load(path)
    except CheckpointError as error:
        return str(error)
    raise AssertionError(f'{file}: loaded {loaded}')


@pytest.mark.parametrize('part', [0, *(pytest.param(part, marks=pytest.mark.slow) for part in range(1, 4))])
def test_refused_by_name(part: int, tmp_path: Path) -> None:
    """More than 800 files; the quick part is every fourth."""
    assert len(FILES) > 800
    path = tmp_path / 'evil.pth'
    canary.calls.clear()
    for file in FILES[part::4]:
        said = refused(file, path)
        assert str(path) in said and ('is refused' in said or 'cannot be read as a checkpoint' in said), file
    assert not canary.calls
    assert HistoryBuffer._statistics_methods == STATISTICS


@pytest.mark.parametrize('entry_point', ['load_checkpoint_file', 'mmengine'])
def test_refused_at_other_entry_points(entry_point: str, tmp_path: Path) -> None:
    path = str(tmp_path / 'evil.pth')
    for file in FILES[::40]:
        file.write(Path(path))
        with pytest.raises(CheckpointError, match=path):
            load_checkpoint_file(path) if entry_point == 'load_checkpoint_file' else load_checkpoint(
                nn.Linear(1, 1), path
            )


@pytest.mark.parametrize('kind', [kind for kind in FORMATS if kind not in ('legacy tar', 'bare pickle')])
def test_files_load_with_a_number_instead_of_the_callable(kind: str, tmp_path: Path) -> None:
    """The callable is refused, not the form of the file."""
    for place in PLACES:
        FORMATS[kind](program(place, BENIGN), tmp_path / 'good.pth')
        expected = pickle.loads(program(place, BENIGN))
        assert safe_torch_load(tmp_path / 'good.pth') == expected, place


def test_the_callable_is_called_without_protection() -> None:
    canary.calls.clear()
    for i, form in enumerate(('INST', 'OBJ', 'REDUCE')):
        pickle.loads(Malicious(form, ('tests.canary', 'sing'), 'meta', 'new zip').pickle)
        assert len(canary.calls) == i + 1
    canary.calls.clear()


class Named:
    def method(self) -> None: ...


@pytest.mark.parametrize(
    ('evil', 'said'),
    [
        (print, 'builtin_function_or_method print'),
        (len, 'len'),
        (Named.method, 'function Named.method'),
        (Named().method, 'method Named.method'),
        (Named, 'type Named'),
        (Named(), 'an object Named'),
        (np, 'module'),
        (torch.float32.__class__, 'dtype'),
        (torch.FloatStorage(1), 'TypedStorage'),
        (object(), 'object'),
        (iter([]), 'list_iterator'),
        (np.empty(1, [('a', 'O')]), 'ndarray'),
        (torch.per_tensor_affine, 'qscheme'),
    ],
)
def test_the_place_and_the_callable_are_named(evil: Any, said: str) -> None:
    content = dict(state_dict={}, meta=dict(notes=[1, dict(who=(2, evil))]))
    with pytest.raises(CheckpointError, match=rf'x.pth is refused: meta\.notes\[1\]\.who\[1\] holds .*{said}'):
        check_content(content, 'x.pth')


def test_checkpoints_of_training_are_only_data() -> None:
    """Every type in checkpoints of mmengine and of this package; a cyclic structure terminates."""
    weight = nn.Parameter(torch.ones(1))
    state = nn.BatchNorm2d(1).state_dict()
    assert state._metadata
    cycle: list[Any] = [1]
    cycle.append(cycle)
    array = np.array(['a', None, 3], dtype=object)
    values = [weight, state, cycle, array, np.arange(3), np.array(['x']), np.float32(1), np.dtype('f4'), slice(1, 2)]
    values += [torch.Size([1]), torch.float16, torch.device('cpu'), b'x', bytearray(b'x'), {1, 2}, 1j, None, True]
    values += [HistoryBuffer([1.0], [1]), nn.Buffer(torch.ones(1)), torch.ones(2).to_sparse()]
    check_content({str(i): value for i, value in enumerate(values)}, 'x.pth')
    check_content({0: values[0], (1, 'a'): 2, b'x': 3, None: 4, 1.5: 5}, 'x.pth')


def test_a_checkpoint_changes_no_class(tmp_path: Path) -> None:
    """mmengine puts the functions that a HistoryBuffer's pickle names into the class, for every buffer."""
    path = tmp_path / 'x.pth'
    buffer = HistoryBuffer([1.0, 3.0], [1, 1])
    methods = dict(STATISTICS)
    try:
        HistoryBuffer._statistics_methods['mean'] = HistoryBuffer.max
        torch.save(dict(log=buffer), path)
    finally:
        HistoryBuffer._statistics_methods.clear()
        HistoryBuffer._statistics_methods.update(methods)
    loaded = safe_torch_load(path)['log']
    assert type(loaded) is HistoryBuffer and HistoryBuffer._statistics_methods == methods
    assert loaded.statistics('mean') == loaded.mean() == 2
    loaded.update(5.0)
    torch.save(dict(log=loaded), path)
    assert safe_torch_load(path)['log'].statistics('max') == 5
