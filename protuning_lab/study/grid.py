"""The grid of a study: its groups and cells, and the parts that ``--only`` and ``--shard`` select."""

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from protuning_lab.study.definition import Study, check_names
from protuning_lab.study.errors import StudyError


@dataclass(frozen=True)
class Group:
    """One combination of the axes' values. Its cells differ in learning rate and seed.

    Args:
        values (tuple[tuple[str, str]]): Pairs of axis and value, in the order of the axes.
        learning_rates (tuple[float | None]): The candidates. None stands for the config's own learning rate.
        settings (tuple[str | None]): Names of the candidate settings. None stands for no further setting.
    """

    values: tuple[tuple[str, str], ...]
    learning_rates: tuple[float | None, ...]
    settings: tuple[str | None, ...] = (None,)

    @property
    def name(self) -> str:
        return ','.join(f'{axis}={value}' for axis, value in self.values)

    @property
    def candidates(self) -> list[tuple[float | None, str | None]]:
        """Every combination of learning rate and setting."""
        return list(itertools.product(self.learning_rates, self.settings))

    def __getitem__(self, axis: str) -> str:
        return dict(self.values)[axis]


@dataclass(frozen=True)
class Cell:
    """One run of the grid.

    Args:
        group (Group): The values of the axes.
        learning_rate (float, optional): None stands for the config's own learning rate.
        seed (int): The run's seed.
        search (bool): Whether the options in ``learning_rate.options`` apply. Defaults to False.
        setting (str, optional): The name of the candidate setting. Defaults to none.
    """

    group: Group
    learning_rate: float | None
    seed: int
    search: bool = False
    setting: str | None = None

    @property
    def name(self) -> str:
        """The cell's folder, relative to ``cells/``."""
        parts = ['search'] * self.search + [self.candidate] * bool(self.candidate)
        return f'{self.group.name}/{",".join([*parts, f"seed={self.seed}"])}'

    @property
    def candidate(self) -> str:
        """The learning rate and the setting, as the cell's name contains them."""
        parts = [] if self.learning_rate is None else [f'lr={self.learning_rate:g}']
        return ','.join(parts if self.setting is None else [*parts, self.setting])


def list_groups(study: Study) -> list[Group]:
    """Return every combination of the axes that is not skipped, in the order of the axes.

    Raises:
        StudyError: all combinations are skipped, or two axes set the learning rates or the settings of one group.
    """
    groups = []
    for values in _product(study):
        if _why_skipped(study, values) is None:
            rates, settings = _candidates(study, values, 'learning_rates'), _candidates(study, values, 'settings')
            default = study.learning_rate.values if study.learning_rate else (None,)
            groups.append(Group(tuple(values.items()), tuple(rates or default), tuple(settings or (None,))))
    if not groups:
        raise StudyError(f'{study.path}: skip leaves no combination of the axes')
    return groups


def describe_skipped(study: Study) -> list[tuple[str, str]]:
    """Return the skipped combinations as text, each with its reason."""
    return [
        (', '.join(f'{axis} {" / ".join(each[axis])}' for axis in study.axes if axis in each), each['why'])
        for each in study.skip
    ]


def _product(study: Study) -> list[dict[str, str]]:
    return [dict(zip(study.axes, names)) for names in itertools.product(*study.axes.values())]


def _why_skipped(study: Study, values: Mapping[str, str]) -> str | None:
    for each in study.skip:
        if all(values[axis] in each[axis] for axis in values if axis in each):
            return str(each['why'])
    return None


def _candidates(study: Study, values: Mapping[str, str], key: str) -> Any:
    """Return ``learning_rates`` or ``settings`` of the one value that sets them; None if no value does."""
    own = {axis: getattr(study.axes[axis][name], key) for axis, name in values.items()}
    named = {axis: found for axis, found in own.items() if found}
    if len(named) > 1:
        raise StudyError(f'{values}: {key} are set by {" and by ".join(named)}; only one axis may set them')
    return next(iter(named.values()), None)


def select_groups(study: Study, groups: Sequence[Group], wanted: Sequence[str]) -> list[Group]:
    """Return the groups that ``--only target=balanced tuning=pro,linear`` selects.

    Raises:
        StudyError: an axis or a value does not exist, or no group is left.
    """
    for word in wanted:
        axis, equals, names = word.partition('=')
        if not equals:
            raise StudyError(f'--only {word}: write axis=value or axis=value,value')
        keep = check_names(f'--only {word}', axis, names.split(','), study.axes)
        groups = [group for group in groups if group[axis] in keep]
    if not groups:
        raise StudyError(f'--only {" ".join(wanted)} selects no combination')
    return list(groups)


@dataclass(frozen=True)
class Shard:
    """Part ``part`` of ``count`` of a study, counted from 1. All cells of a group are in the same part."""

    part: int
    count: int

    def select(self, groups: Sequence[Group]) -> list[Group]:
        """Return the groups of this part."""
        return list(groups[self.part - 1 :: self.count])

    def __str__(self) -> str:
        return f'{self.part}-of-{self.count}'


def parse_shard(text: str) -> Shard:
    """Parse ``2/4``; for ``slurm/4``, read the part from the environment of a SLURM array task.

    The number of parts is not read from SLURM, because an array that restarts one task has fewer tasks than parts.

    Raises:
        StudyError: the text has another form, or the part does not exist.
    """
    part, _, count = text.partition('/')
    if not (part.isdigit() or part == 'slurm') or not count.isdigit():
        raise StudyError(f'--shard {text}: write i/n, such as 1/4, or slurm/4 in a SLURM array with the tasks 1 to 4')
    if part == 'slurm':
        part = os.environ.get('SLURM_ARRAY_TASK_ID', '')
        if not part.isdigit():
            raise StudyError(
                f'--shard {text}: SLURM_ARRAY_TASK_ID is not set; submit the job with sbatch --array=1-{count}'
            )
    if not 1 <= int(part) <= int(count):
        raise StudyError(f'--shard {text}: there is no part {part}; the parts are 1 to {count}')
    return Shard(int(part), int(count))
