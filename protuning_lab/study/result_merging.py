"""Merges the results of a study that ran in several work dirs."""

from collections.abc import Sequence
from pathlib import Path

from protuning_lab.study.configs import ConfigBuilder
from protuning_lab.study.definition import Study
from protuning_lab.study.errors import StudyError
from protuning_lab.study.grid import Group
from protuning_lab.study.learning_rate_choice import list_possible_cells
from protuning_lab.study.results import ERROR, cell_folder, has_results, read_archive, read_result, write_result
from protuning_mm.weights.atomic import write_atomically

# two results of the same cell must agree on these; times and machines may differ
_MEASURED = ('val', 'test', 'trained_weights')


def merge_results(study: Study, groups: Sequence[Group], configs: ConfigBuilder, folders: Sequence[Path]) -> list[str]:
    """Copy the results of other work dirs to the study's work dir.

    The first result of a cell is kept; a later one with different values is reported. Results of another config are not
    copied; in the study's own work dir they are replaced.

    Args:
        study (Study): The study.
        groups (Sequence[Group]): The groups to copy.
        configs (ConfigBuilder): Builds the config of each cell.
        folders (Sequence[Path]): The other work dirs, or archives (``results.jsonl``) of them.

    Returns:
        list[str]: One line per result that was not copied because it differs or has another config.

    Raises:
        StudyError: a folder or archive does not exist or contains no results.
    """
    for folder in folders:
        if not folder.is_file() and not (has_results(folder) or any(folder.rglob(ERROR))):
            raise StudyError(f'--merge {folder}: not the work dir of a study: it contains no results')
    archives = {folder: read_archive(folder) for folder in folders if folder.is_file()}
    conflicts = []
    for cell in list_possible_cells(study, groups):
        target, digest = cell_folder(study.work_dir, cell), configs.build(cell).digest
        kept, source = read_result(target), study.work_dir
        if kept is not None and kept['config_hash'] != digest:
            kept = None
        for folder in folders:
            stored = archives.get(folder)
            found = read_result(cell_folder(folder, cell)) if stored is None else stored.get(cell.name)
            error = cell_folder(folder, cell) / ERROR
            if found is None:
                if kept is None and error.is_file():
                    write_atomically(error.read_bytes(), target / ERROR)
            elif found['config_hash'] != digest:
                conflicts.append(f'{cell.name}: skipped the result in {folder}: it was made with another config')
            elif kept is None:
                write_result(target, found)
                (target / ERROR).unlink(missing_ok=True)
                kept, source = found, folder
            elif differ := [name for name in _MEASURED if kept[name] != found[name]]:
                conflicts.append(
                    f'{cell.name}: {folder} and {source} disagree on {", ".join(differ)}; kept the result in {source}'
                    + ('' if kept['machine'] == found['machine'] else ' (the machines differ)')
                )
    return conflicts
