"""Config text inside a checkpoint: kept where it is data, left out where running it could do anything."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from protuning_mm.checkpoints import load_checkpoint_file
from protuning_mm.checkpoints.config_text import is_plain
from tests.mini import REPO

OURS = sorted(str(p.relative_to(REPO)) for p in (REPO / 'configs').glob('[!_]*/*.py'))


@pytest.mark.parametrize('config', OURS)
def test_what_a_run_writes_is_data(config: str) -> None:
    """``pretty_text`` is what Runner.save_checkpoint puts into ``meta``."""
    assert is_plain(Config.fromfile(REPO / config).pretty_text)


@pytest.mark.parametrize(
    'text',
    [
        "__import__('os').system('x')",
        "a = __import__('os').system('x')",
        "a = dict(b=[open('x', 'w')])",
        'import os',
        'a = [i for i in (1,)]',
        'a = lambda: 0',
        "a = f'{open(1)}'",
        "_base_ = '/etc/x.py'",
        "custom_imports = dict(imports=['evil'])",
        "custom_imports = dict(imports='evil.protuning_mm')",
        'custom_imports = dict(imports=[dict(a=1)])',
        "custom_imports = ['evil']",
        'a: int = 1',
        'a = b = 1',
        'a.b = 1',
        "a = dict(**dict(b=1), c=print('x'))",
        "a = dict(open('x', 'w'))",
        'a = (yield)',
        'def f(): pass',
        'a = 1 +',
        'a = ' + '(' * 5000 + ')' * 5000,
        3,
        None,
    ],
)
def test_what_is_more_than_data(text: object) -> None:
    assert not is_plain(text)


def test_imports_of_known_libraries() -> None:
    assert is_plain("custom_imports = dict(allow_failed_imports=False, imports=['protuning_mm', 'mmpretrain.models'])")


@pytest.mark.parametrize('place', ['meta', 'message_hub'])
def test_left_out_when_read(place: str, tmp_path: Path) -> None:
    for name, text, kept in (('good', 'a = 1\n', True), ('evil', f"open('{tmp_path}/trap', 'w')", False)):
        whole = dict(state_dict={}, meta=dict(cfg=text, epoch=1), message_hub=dict(runtime_info=dict(cfg=text)))
        torch.save(whole, tmp_path / f'{name}.pth')
        got = load_checkpoint_file(str(tmp_path / f'{name}.pth'))
        holder = got['meta'] if place == 'meta' else got['message_hub']['runtime_info']
        assert ('cfg' in holder) is kept and got['meta']['epoch'] == 1
    assert not (tmp_path / 'trap').exists()
