"""Collects the results of a study that ran in several work dirs."""

from collections.abc import Sequence
from pathlib import Path

from protuning_lab.study.configs import Configs
from protuning_lab.study.definition import Study
from protuning_lab.study.errors import StudyError
from protuning_lab.study.grid import Group
from protuning_lab.study.results import ERROR, any_result, folder_of, read_result, write_result
from protuning_lab.study.summary import cells_of
from protuning_mm.weights.atomic import write_atomically

# what two runs of the same cell may differ in without contradicting each other
_MEASURED = ('val', 'test', 'trained_weights')


def merge(study: Study, groups: Sequence[Group], configs: Configs, folders: Sequence[Path]) -> list[str]:
    """Copy the results of other work dirs to the study's.

    A result that is there already stays; another that says something else is told. A result that was made with
    another config is not taken, and gives way where it is there.

    Args:
        study (Study): The study.
        groups (Sequence[Group]): Those to collect.
        configs (Configs): Its configs.
        folders (Sequence[Path]): The work dirs.

    Returns:
        list[str]: What did not fit, a line each.

    Raises:
        StudyError: a folder is none, or holds no result.
    """
    for folder in folders:
        if not folder.is_dir() or not (any_result(folder) or any(folder.rglob(ERROR))):
            raise StudyError(f'--merge {folder}: no work dir of a study, there is no result in it')
    told = []
    for cell in (cell for group in groups for cell in cells_of(study, group)):
        target, digest = folder_of(study.work_dir, cell), configs.of(cell).digest
        there, source = read_result(target), study.work_dir
        if there is not None and there['config_hash'] != digest:
            there = None
        for folder in folders:
            found = read_result(folder_of(folder, cell))
            error = folder_of(folder, cell) / ERROR
            if found is None:
                if there is None and error.is_file():
                    write_atomically(error.read_bytes(), target / ERROR)
            elif found['config_hash'] != digest:
                told.append(f'{cell.name}: {folder} made it with another config: not taken')
            elif there is None:
                write_result(target, found)
                (target / ERROR).unlink(missing_ok=True)
                there, source = found, folder
            elif differ := [name for name in _MEASURED if there[name] != found[name]]:
                told.append(
                    f'{cell.name}: {folder} and {source} disagree on {", ".join(differ)}; that of {source} is taken'
                    + ('' if there['machine'] == found['machine'] else ' (they were made on different machines)')
                )
    return told
