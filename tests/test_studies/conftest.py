"""The data of the studies, with few images per class."""

import json
from pathlib import Path
from typing import Any

import pytest

from studies import data as module
from studies.data import make_data

COUNTS = {'train': 6, 'val': 2, 'test': 3, 'source': 3, 'source_val': 1}


@pytest.fixture(scope='session')
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write both tasks into a folder. The val and test splits contain all their digits twice."""
    out = tmp_path_factory.mktemp('studies')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, 'COUNTS', COUNTS)
        make_data(out)
    return out


@pytest.fixture(scope='session')
def metas(few: Path) -> dict[str, dict[str, Any]]:
    return {task: json.loads((few / task / 'meta.json').read_text()) for task in ('digits', 'textures')}
