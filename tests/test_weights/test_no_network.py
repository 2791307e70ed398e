"""An address that cannot be fetched: one sentence with the remedy, at each entry point of mmengine's loader."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch

from protuning_mm.weights import CheckpointError
from tests.test_weights.test_safe_load import ENTRY_POINTS, entry_points

URL = 'https://download.openmmlab.com/some/where/model.pth'


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise URLError(OSError(-3, 'Temporary failure in name resolution'))

    monkeypatch.setattr(torch.hub, 'download_url_to_file', refuse)
    monkeypatch.setattr(torch.hub, 'load_state_dict_from_url', refuse)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch_home'))


@pytest.mark.usefixtures('no_network')
@pytest.mark.parametrize(
    'entry_point', [entry_point for entry_point in ENTRY_POINTS if not entry_point.startswith('ours')]
)  # those read only files
@pytest.mark.parametrize('address', [URL, 'torchvision://resnet18'])
def test_address_without_a_network(address: str, entry_point: str, tmp_path: Path) -> None:
    load: Callable[[], Any] = entry_points(address, tmp_path / 'run')[entry_point]
    with pytest.raises(CheckpointError) as caught:
        load()
    assert str(caught.value) == (
        f'checkpoint {address!r} cannot be fetched: <urlopen error [Errno -3] Temporary failure in name resolution>. '
        'Without a network, download it on another machine and give its path.'
    )
    assert caught.value.__suppress_context__  # no traceback of urllib


@pytest.mark.parametrize(
    ('address', 'said'), [('torchvision://resnet17', 'not a name of this scheme'), ('no.pth', 'does not exist')]
)
def test_address_that_does_not_exist(address: str, said: str, tmp_path: Path) -> None:
    for name, load in entry_points(address, tmp_path / 'run').items():
        if not name.startswith('ours'):
            with pytest.raises(CheckpointError, match=f"'{address}'.*{said}"):
                load()
