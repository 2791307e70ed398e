"""Training a detector without mmseg installed, and a segmentor without mmdet."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.mini import REPO, write_config

WITHOUT = """
import importlib.abc, runpy, sys

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {missing!r}:
            raise ModuleNotFoundError(f'No module named {{name!r}} (as if it were not installed)', name=name)

sys.meta_path.insert(0, Missing())
sys.argv = {argv!r}
runpy.run_path(sys.argv[0], run_name='__main__')
assert not set(sys.modules) & set({missing!r})
"""


@pytest.mark.parametrize(
    ('model', 'missing'),
    [('cascade', ('mmseg', 'mmpretrain', 'timm')), ('fcn', ('mmdet', 'mmpretrain', 'timm'))],
)
def test_training_with_one_host_installed(model: str, missing: tuple[str, ...], tmp_path: Path) -> None:
    config = write_config(model, tmp_path)
    argv = [str(REPO / 'tools/train.py'), str(config), '--work-dir', str(tmp_path / 'run')]
    code = WITHOUT.format(missing=missing, argv=argv)
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert list((tmp_path / 'run').glob('*.pth'))
