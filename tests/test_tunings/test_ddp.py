"""Every family with every tuning under DDP: two CPU ranks (gloo), without find_unused_parameters."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.families import CELLS
from tests.mini import REPO
from tests.test_tunings.test_contract import QUICK

pytestmark = pytest.mark.ddp
ENV = os.environ | {'OMP_NUM_THREADS': '1', 'PYTHONPATH': f'{REPO}{os.pathsep}{os.environ.get("PYTHONPATH", "")}'}


def in_two_processes(cells: list[tuple[str, str]], folder: Path) -> list[dict]:
    (folder / 'cells.json').write_text(json.dumps(cells))
    script = str(Path(__file__).with_name('ddp_worker.py'))
    launch = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2', script]
    done = subprocess.run(
        [*launch, str(folder / 'cells.json'), str(folder / 'out.json')],
        env=ENV,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads((folder / 'out.json').read_text())


@pytest.mark.parametrize('which', ['quick', pytest.param('all', marks=pytest.mark.slow)])
def test_ranks_agree_and_gradients_are_their_mean(which: str, tmp_path: Path) -> None:
    cells = CELLS if which == 'all' else [cell for cell in CELLS if cell in QUICK]
    results = in_two_processes(cells, tmp_path)
    for cell, result in zip(cells, results, strict=True):
        assert 'failed' not in result, f'{cell}: {result["failed"]}'
        assert result['finite'], f'{cell}: weights that are no numbers'
        assert result['identical'], f'{cell}: the ranks end with different weights'
        assert result['error'] <= 1e-5, f'{cell}: the reduced gradient is {result["error"]} off the mean'
