"""tools/analysis_tools/count_params.py: tables of several configs."""

import json

import pytest

from protuning_mm.cli import count_params
from tests.mini import REPO

CONFIGS = [str(REPO / f'configs/seg/upernet_r50_{kind}.py') for kind in ('protune', 'finetune')]


def test_text_of_two_configs(capsys: pytest.CaptureFixture) -> None:
    count_params.main(CONFIGS)
    printed = capsys.readouterr().out
    rows = {line.split('  ')[0]: line.split() for line in printed.splitlines()}
    assert rows['total'][1:] == ['46.59', '23.53', '66.52', '0.00']
    assert rows['share of full'][-2:] == ['70.0%', '100.0%']


def test_json_parts_add_up(capsys: pytest.CaptureFixture) -> None:
    count_params.main([*CONFIGS, '--json'])
    tables = json.loads(capsys.readouterr().out)
    for table in tables.values():
        assert sum(part['trained'] for part in table['parts']) == table['trained']
        assert sum(part['frozen'] for part in table['parts']) == table['frozen']
    tuned, full = tables['upernet_r50_protune'], tables['upernet_r50_finetune']
    assert tuned['full'] == full['trained'] == full['full']
