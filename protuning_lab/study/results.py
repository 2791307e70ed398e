"""Reads and writes the results of a study: one file per cell."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from protuning_lab.study.configs import ConfigBuilder
from protuning_lab.study.definition import Study
from protuning_lab.study.errors import StudyError
from protuning_lab.study.grid import Cell, Group
from protuning_lab.study.learning_rate_choice import list_possible_cells
from protuning_mm.weights.atomic import write_atomically

CELLS, RESULT, ERROR = 'cells', 'result.json', 'error.txt'
ARCHIVE = 'results.jsonl'  # all results in one file: one line per cell
Result = dict[str, Any]


def cell_folder(work_dir: Path, cell: Cell) -> Path:
    """Return the folder of a cell's files."""
    return work_dir / CELLS / cell.name


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Write a cell's result atomically."""
    write_atomically((json.dumps(result, indent=1) + '\n').encode(), folder / RESULT)


def write_archive(path: Path, results: Mapping[Cell, Result]) -> None:
    """Write results to one file, one JSON object per line, with the cell's name as ``name``."""
    lines = [json.dumps(dict(name=cell.name, **result)) + '\n' for cell, result in results.items()]
    write_atomically(''.join(sorted(lines)).encode(), path)


def read_archive(path: Path) -> dict[str, Result]:
    """Read the file of :func:`write_archive`: cell's name -> result.

    Raises:
        StudyError: a line is not a result.
    """
    results = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            result = json.loads(line)
            results[result.pop('name')] = result
            result['config_hash']
        except (ValueError, TypeError, KeyError, AttributeError):
            raise StudyError(f'{path}, line {number}: not the result of a study') from None
    return results


def read_result(folder: Path) -> Result | None:
    """Read a cell's result; return None if there is none.

    Raises:
        StudyError: the file is not a result.
    """
    path = folder / RESULT
    if not path.is_file():
        return None
    try:
        result: Result = json.loads(path.read_text())
    except ValueError as error:
        raise StudyError(f'{path} is not valid JSON ({error}): delete it and run with --resume') from None
    if not isinstance(result, dict) or 'config_hash' not in result:
        raise StudyError(f'{path} is not the result of a study: delete it and run with --resume')
    return result


@dataclass
class StoredResults:
    """The results and errors in a work dir.

    Args:
        results (dict[Cell, Result]): Results of the current configs.
        stale (list[str]): Names of cells whose result was made with another config.
        failed (dict[Cell, str]): Failed cells, each with the last line of its error.
    """

    results: dict[Cell, Result] = field(default_factory=dict)
    stale: list[str] = field(default_factory=list)
    failed: dict[Cell, str] = field(default_factory=dict)


def find_results(study: Study, groups: Sequence[Group], configs: ConfigBuilder) -> StoredResults:
    """Read the results of groups. Results that were made with another config are only listed as stale.

    Raises:
        StudyError: a result file is damaged.
    """
    stored = StoredResults()
    for cell in list_possible_cells(study, groups):
        folder = cell_folder(study.work_dir, cell)
        result = read_result(folder)
        if result is not None and result['config_hash'] == configs.build(cell).digest:
            stored.results[cell] = result
        elif result is not None:
            stored.stale.append(cell.name)
        elif (folder / ERROR).is_file():
            stored.failed[cell] = (folder / ERROR).read_text().strip().splitlines()[-1]
    return stored


def has_results(work_dir: Path) -> bool:
    """Whether a work dir contains the result of any cell."""
    return next((work_dir / CELLS).rglob(RESULT), None) is not None
