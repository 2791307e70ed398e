"""What the doctor says of tunings is what the studies have measured."""

import csv
from pathlib import Path

import pytest
from mmengine.config import Config

from protuning_mm.doctor.training_setup import TrainingSetup, build_model
from protuning_mm.doctor.tuning_advice import advise_tuning
from tests.mini import REPO
from tests.test_doctor.doctor_runs import MiniConfigs

EVIDENCE = REPO / 'docs/evidence'


def means(file: str, metric: str) -> dict[str, float]:
    """The mean of each tuning's test results over the seeds."""
    with (EVIDENCE / file).open() as lines:
        rows = [row for row in csv.DictReader(lines) if row['metric'] == metric and row['split'] == 'test']
    values: dict[str, list[float]] = {}
    for row in rows:
        values.setdefault(row['tuning'], []).append(float(row['value']))
    assert all(len(found) == 3 for found in values.values())
    return {name: sum(found) / 3 for name, found in values.items()}


def memory(file: str) -> dict[str, float]:
    with (EVIDENCE / file).open() as lines:
        return {row['tuning']: float(row['peak_memory_mib']) for row in csv.DictReader(lines)}


def test_classification() -> None:
    found, peak = means('lite.csv', 'accuracy/top1'), memory('lite_costs.csv')
    assert max(found, key=lambda name: found[name]) == 'lora' and found['lora'] - found['norm'] < 1.5
    assert peak['linear'] == min(peak.values()) and peak['pro'] < min(peak['lora'], peak['norm'])


def test_detection() -> None:
    found, peak = means('bccd.csv', 'coco/bbox_mAP'), memory('bccd_costs.csv')
    assert abs(found['lora'] - found['full']) < 0.01
    assert peak['linear'] == min(peak.values()) and peak['pro'] < min(peak['lora'], peak['full'])


def test_segmentation() -> None:
    found, peak = means('camvid.csv', 'mIoU'), memory('camvid_costs.csv')
    assert abs(found['lora'] - found['full']) < 0.5
    assert found['partial'] > found['pro'] and peak['partial'] < peak['pro'] and peak['linear'] == min(peak.values())


@pytest.mark.parametrize(('model', 'said'), [('upernet', 'roads'), ('cascade', 'blood cells')])
def test_is_about_the_host_of_the_config(model: str, said: str, mini: MiniConfigs) -> None:
    config: Path = mini(model)
    setup = TrainingSetup(Config.fromfile(config))
    assert advise_tuning(setup) == ''
    build_model(setup)
    assert said in advise_tuning(setup)
