"""The results of a study on the disk: one file a cell."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from protuning_lab.study.configs import Configs
from protuning_lab.study.errors import StudyError
from protuning_lab.study.grid import Cell
from protuning_mm.weights.atomic import write_atomically

CELLS, RESULT, ERROR = 'cells', 'result.json', 'error.txt'
Result = dict[str, Any]


def folder_of(work_dir: Path, cell: Cell) -> Path:
    """Where a cell's files are."""
    return work_dir / CELLS / cell.name


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Write a cell's result, whole: a kill leaves it or nothing."""
    write_atomically((json.dumps(result, indent=1) + '\n').encode(), folder / RESULT)


def read_result(folder: Path) -> Result | None:
    """Read a cell's result; None without one.

    Raises:
        StudyError: the file is no result.
    """
    path = folder / RESULT
    if not path.is_file():
        return None
    try:
        result: Result = json.loads(path.read_text())
    except ValueError as error:
        raise StudyError(f'{path} is no JSON ({error}): delete it, and run with --resume') from None
    if not isinstance(result, dict) or 'config_hash' not in result:
        raise StudyError(f'{path} is no result of a study: delete it, and run with --resume')
    return result


@dataclass
class Found:
    """What a work dir holds.

    Args:
        results (dict[Cell, Result]): Results whose config is what the study says now.
        stale (list[str]): Cells whose result was made with another config.
        failed (dict[Cell, str]): The last line of what stopped a cell.
    """

    results: dict[Cell, Result] = field(default_factory=dict)
    stale: list[str] = field(default_factory=list)
    failed: dict[Cell, str] = field(default_factory=dict)


def find_results(work_dir: Path, cells: list[Cell], configs: Configs) -> Found:
    """Read the results of some cells. A result that was made with another config is not taken."""
    found = Found()
    for cell in cells:
        folder = folder_of(work_dir, cell)
        result = read_result(folder)
        if result is not None and result['config_hash'] == configs.of(cell).digest:
            found.results[cell] = result
        elif result is not None:
            found.stale.append(cell.name)
        elif (folder / ERROR).is_file():
            found.failed[cell] = (folder / ERROR).read_text().strip().splitlines()[-1]
    return found


def any_result(work_dir: Path) -> bool:
    """Whether a work dir holds a result of any cell."""
    return next((work_dir / CELLS).rglob(RESULT), None) is not None
