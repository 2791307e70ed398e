"""The benchmark of cached features: both kinds of epochs are trained and timed."""

import json
from pathlib import Path

import pytest

from protuning_lab.benchmarks.cached_features import format_table, main, parse_args
from protuning_lab.benchmarks.cached_runs import TUNINGS, make_config


def test_table_has_medians_of_ratios() -> None:
    row = dict(seconds=dict(preparing=[4.0], images=[2.0, 30.0, 6.0], features=[1.0, 2.0, 2.0]), bytes=5120)
    assert format_table({'linear': row}).splitlines()[-1] == '| linear | 5 | 4.0 | 6.00 | 2.00 | 3.0 |'


def test_every_tuning_has_a_config(tmp_path: Path) -> None:
    for tuning in TUNINGS.values():
        cfg = make_config(parse_args([]), tuning, tmp_path / 'images', tmp_path / 'run')
        assert cfg.train_dataloader.dataset.type == 'CachedSamples' and cfg.train_dataloader.drop_last
        assert cfg.custom_hooks[0].type == 'protuning_mm.FeatureCacheHook'


@pytest.mark.slow
def test_measures_both_kinds_of_epochs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / 'x.json'
    flags = '--tunings linear --images 12 --batch 4 --size 64 --rounds 2'
    main([*flags.split(), '--json', str(out)])
    row = json.loads(out.read_text())['results']['linear']
    assert {name: len(times) for name, times in row['seconds'].items()} == dict(preparing=1, images=2, features=2)
    assert 5120 <= row['bytes'] < 5200  # 1,280 floats, and a header for 12 images
    assert min(row['seconds']['images']) > max(row['seconds']['features'])
    assert '| linear | 5 |' in capsys.readouterr().out
