"""Fake studies and results, for tests that need no real run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from protuning_lab.study.configs import ConfigBuilder
from protuning_lab.study.definition import Study
from protuning_lab.study.grid import Cell, list_groups
from protuning_lab.study.learning_rate_choice import list_possible_cells
from protuning_lab.study.results import cell_folder, write_result
from protuning_lab.study.study_file import read_study

METRIC = 'accuracy/top1'


def make_study(folder: Path, text: str, base: str = 'a = 1\n') -> Study:
    """Write ``study.py`` and the config ``base.py`` into a folder, and read the study."""
    (folder / 'base.py').write_text(base)
    (folder / 'study.py').write_text(text)
    return read_study(folder / 'study.py')


def fake_result(val: float, test: float = 0.0, **others: Any) -> dict[str, Any]:
    """Return a result with a validation metric, a test metric and costs."""
    result = dict(
        cell={},
        config_hash='none',
        val={METRIC: val},
        test=dict(test={METRIC: test}),
        validations=[],
        trained_parameters=1000,
        full_parameters=50000,
        share=0.02,
        trained_weights='none',
        peak_memory_mib=10.0,
        memory_measured_by='profiled step',
        step_seconds=0.01,
        steps=4,
        seconds=1.0,
        machine=dict(name='here', cpu='a CPU', cores=2, device='CPU'),
        threads=1,
        jobs=1,
        versions=dict(python='3'),
    )
    return result | others


def write_fake_results(study: Study, make: Callable[[Cell], dict[str, Any] | None]) -> None:
    """Write the result that ``make`` returns for every cell that a study may need; None writes nothing."""
    configs = ConfigBuilder(study)
    for cell in list_possible_cells(study, list_groups(study)):
        result = make(cell)
        if result is not None:
            write_result(cell_folder(study.work_dir, cell), result | dict(config_hash=configs.build(cell).digest))
