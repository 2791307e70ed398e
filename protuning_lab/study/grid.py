"""The cells of a study: what is run, what is skipped, and which part of it a shard takes."""

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from protuning_lab.study.definition import Study, names_of
from protuning_lab.study.errors import StudyError


@dataclass(frozen=True)
class Group:
    """A combination of the axes' values; its cells differ by learning rate and seed.

    Args:
        values (tuple[tuple[str, str]]): Axis and value, in the axes' order.
        learning_rates (tuple[float | None]): The candidates; None is the config's own.
    """

    values: tuple[tuple[str, str], ...]
    learning_rates: tuple[float | None, ...]

    @property
    def name(self) -> str:
        return ','.join(f'{axis}={value}' for axis, value in self.values)

    def __getitem__(self, axis: str) -> str:
        return dict(self.values)[axis]


@dataclass(frozen=True)
class Cell:
    """One run."""

    group: Group
    learning_rate: float | None
    seed: int

    @property
    def name(self) -> str:
        """Its folder below ``cells/``."""
        rate = '' if self.learning_rate is None else f'lr={self.learning_rate:g},'
        return f'{self.group.name}/{rate}seed={self.seed}'


def all_groups(study: Study) -> list[Group]:
    """Every combination that is not skipped, in the axes' order.

    Raises:
        StudyError: two axes name learning rates for one group.
    """
    groups = []
    for values in _product(study):
        if _why_skipped(study, values) is None:
            groups.append(Group(tuple(values.items()), _learning_rates(study, values)))
    if not groups:
        raise StudyError(f'{study.path}: skip leaves no combination of the axes')
    return groups


def skipped_groups(study: Study) -> list[tuple[str, str]]:
    """Combinations that do not exist, as ``skip`` wrote them, and why."""
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


def _learning_rates(study: Study, values: Mapping[str, str]) -> tuple[float | None, ...]:
    if study.learning_rate is None:
        return (None,)
    own = {axis: study.axes[axis][name].learning_rates for axis, name in values.items()}
    named = {axis: rates for axis, rates in own.items() if rates}
    if len(named) > 1:
        raise StudyError(f'{values}: learning_rates stand in {" and in ".join(named)}; one axis may name them')
    return next(iter(named.values()), study.learning_rate.values)


def only(study: Study, groups: Sequence[Group], wanted: Sequence[str]) -> list[Group]:
    """The groups that ``--only target=balanced tuning=pro,linear`` names.

    Raises:
        StudyError: there is no such axis or value, or nothing is left.
    """
    for word in wanted:
        axis, equals, names = word.partition('=')
        if not equals:
            raise StudyError(f'--only {word}: write axis=value or axis=value,value')
        keep = names_of(f'--only {word}', axis, names.split(','), study.axes)
        groups = [group for group in groups if group[axis] in keep]
    if not groups:
        raise StudyError(f'--only {" ".join(wanted)} leaves nothing')
    return list(groups)


@dataclass(frozen=True)
class Shard:
    """One of ``of`` parts of a study, counted from one. All cells of a group are in one part."""

    part: int
    of: int

    def take(self, groups: Sequence[Group]) -> list[Group]:
        return list(groups[self.part - 1 :: self.of])

    def __str__(self) -> str:
        return f'{self.part}-of-{self.of}'


def read_shard(text: str) -> Shard:
    """Read ``2/4``, or with ``slurm/4`` the part from a SLURM array's environment.

    The array may be a part of the whole, as when one of its tasks is started again: it does not say of how many it is
    one, so that ``--shard`` does.

    Raises:
        StudyError: it is neither, or there is no such part.
    """
    part, _, count = text.partition('/')
    if not (part.isdigit() or part == 'slurm') or not count.isdigit():
        raise StudyError(f'--shard {text}: write i/n, such as 1/4, or slurm/4 in a SLURM array of the tasks 1 to 4')
    if part == 'slurm':
        part = os.environ.get('SLURM_ARRAY_TASK_ID', '')
        if not part.isdigit():
            raise StudyError(f'--shard {text}: SLURM_ARRAY_TASK_ID is not set; start it by sbatch --array=1-{count}')
    if not 1 <= int(part) <= int(count):
        raise StudyError(f'--shard {text}: part {part} of {count}; parts are counted from 1 to {count}')
    return Shard(int(part), int(count))
