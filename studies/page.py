"""Fills the templates of the evidence pages with numbers from the studies' results."""

import csv
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from studies.claims import AGAINST, MEANINGS, agreement, claims_table, verdict
from studies.results import EvidenceError, Measured, format_mean, paired_differences, read_results

_PLACEHOLDER = re.compile(r'\{\{\s*(.*?)\s*\}\}', re.DOTALL)


@dataclass(frozen=True)
class StudyResults:
    """Where the results of the studies are stored, and how to read them.

    Args:
        folder (Path): Contains ``<study>.csv``, ``<study>.md``, ``<study>.png`` and ``<study>.svg``.
        rows (dict[str, str]): Study -> the axis whose values are compared.
        metrics (dict[str, str]): Study -> its metric.
        scales (dict[str, float]): Study -> the factor of its metric. Defaults to 1 for each study.
    """

    folder: Path
    rows: dict[str, str]
    metrics: dict[str, str]
    scales: dict[str, float] = field(default_factory=dict)

    def study(self, name: str) -> Measured:
        if name not in self.rows:
            raise EvidenceError(f'there is no study {name!r}; the studies are {", ".join(self.rows)}')
        file = self.folder / f'{name}.csv'
        return read_results(name, file, self.rows[name], self.metrics[name], self.scales.get(name, 1))

    def costs(self, name: str) -> list[dict[str, str]]:
        """Return the rows of ``<study>_costs.csv``, which ``studies/costs.py`` measures."""
        file = self.folder / f'{name}_costs.csv'
        if not file.is_file():
            raise EvidenceError(f'{str(file)!r} does not exist; studies/costs.py writes it')
        return list(csv.DictReader(file.read_text().splitlines()))

    def has(self, name: str) -> bool:
        return (self.folder / f'{name}.csv').is_file()


def fill_template(template: str, stored: StudyResults) -> str:
    """Replace every ``{{command study axis=value …}}`` in a template by a measured value.

    A section from ``<!-- if study -->`` to ``<!-- end -->`` is kept if the study was run. Otherwise only its part after
    ``<!-- else -->`` is stored.

    Raises:
        EvidenceError: a placeholder is invalid, or its value was not measured. The message names the placeholder.
    """
    text = re.sub(
        r'<!-- if (\w+) -->\n(.*?)(?:<!-- else -->\n(.*?))?<!-- end -->\n',
        lambda found: found[2] if stored.has(found[1]) else (found[3] or ''),
        template,
        flags=re.DOTALL,
    )
    return _PLACEHOLDER.sub(lambda found: _value(found[1], stored), text)


def _value(placeholder: str, stored: StudyResults) -> str:
    command, *words = placeholder.split()
    if command not in COMMANDS or not words:
        raise EvidenceError(f'{{{{{placeholder}}}}}: the first word must be one of {", ".join(COMMANDS)}, then a study')
    try:
        where = dict(word.split('=', 1) for word in words[1:])
        return COMMANDS[command](stored, words[0], where)
    except (EvidenceError, ValueError) as error:
        raise EvidenceError(f'{{{{{placeholder}}}}}: {error}') from None


def _mean(stored: StudyResults, study: str, where: dict[str, str]) -> str:
    options = _pop_options(where)
    return format_mean(list(stored.study(study).scores(where, **options).values()))


def _pop_options(where: dict[str, str]) -> dict[str, str]:
    """Take ``set=``, ``split=`` and ``metric=`` out of the words, which otherwise name axes."""
    names = {'set': 'test', 'split': 'split', 'metric': 'metric'}
    return {names[word]: where.pop(word) for word in names if word in where}


def _diff(stored: StudyResults, study: str, where: dict[str, str]) -> str:
    """For ``tuning=pro/full``: the first minus the second, per seed; ≈ if a t-test cannot tell the mean from zero."""
    options = _pop_options(where)
    axis = next((axis for axis, value in where.items() if '/' in value), None)
    if axis is None:
        raise EvidenceError('one axis must name two values: tuning=pro/full')
    one, other = where[axis].split('/')
    measured = stored.study(study)
    differences = paired_differences(
        measured.scores({**where, axis: one}, **options),
        measured.scores({**where, axis: other}, **options),
    )
    return format_mean(differences, '+') + (' ≈' if verdict(differences) == 'even' else '')


def _order(stored: StudyResults, study: str, where: dict[str, str]) -> str:
    return ', '.join(f'{name} {mean:.1f}' for name, mean in _ranked(stored.study(study), where))


def _rank(stored: StudyResults, study: str, where: dict[str, str]) -> str:
    measured = stored.study(study)
    row = where.pop(measured.rows)
    names = [name for name, _ in _ranked(measured, where)]
    if row not in names:
        raise EvidenceError(f'{row} was not run with these values; {", ".join(names)} were')
    return f'{names.index(row) + 1} of {len(names)}'


def _best(stored: StudyResults, study: str, where: dict[str, str]) -> str:
    return _ranked(stored.study(study), where)[0][0]


def _ranked(measured: Measured, where: dict[str, str]) -> list[tuple[str, float]]:
    test = where.pop('set', None)
    names = measured.values(measured.rows, where)
    scores = {name: list(measured.scores({**where, measured.rows: name}, test).values()) for name in names}
    means = [(name, sum(values) / len(values)) for name, values in scores.items()]
    if not means:
        raise EvidenceError('nothing was run with these values')
    return sorted(means, key=lambda each: -each[1])


def _tables(stored: StudyResults, study: str, wanted: Callable[[str], bool]) -> str:
    sections = re.split(r'^## ', (stored.folder / f'{study}.md').read_text(), flags=re.MULTILINE)[1:]
    found = []
    for section in sections:
        title, _, body = section.partition('\n')
        table = [line for line in body.splitlines() if line.startswith('|')]
        # these explain the marks, after the last table
        notes = [
            textwrap.fill(line, 100, subsequent_indent='  ') for line in body.splitlines() if line.startswith('- ')
        ]
        if wanted(title) and table:
            found.append('\n\n'.join(['\n'.join(lines) for lines in ([f'**{title}**'], table, notes) if lines]))
    return '\n\n'.join(found)


def _validation(stored: StudyResults, study: str, where: dict[str, str]) -> str:
    """Format the validation metric of each row and column, and its mean over the columns."""
    measured = stored.study(study)
    columns = measured.columns()
    rows = list(dict.fromkeys(measured.table[measured.rows].astype(str)))
    lines = [
        f'| {measured.rows} | ' + ' | '.join(', '.join(column.values()) for column in columns) + ' | mean |',
        '|---|' + '---:|' * (len(columns) + 1),
    ]
    for row in rows:
        found = [list(measured.scores({**column, measured.rows: row}, split='val').values()) for column in columns]
        mean = sum(sum(values) / len(values) for values in found) / len(found)
        marks = [' †' if measured.at_edge({**column, measured.rows: row}) else '' for column in columns]
        cells = ' | '.join(format_mean(values) + mark for values, mark in zip(found, marks))
        lines.append(f'| {row} | {cells} | {mean:.1f} |')
    return '\n'.join(lines)


def _overview(stored: StudyResults, study: str, where: dict[str, str]) -> str:
    """Format a table of scores and costs, best mean over the columns first.

    Costs are those of the first column that was measured: the others differ in their data only.
    """
    measured = stored.study(study)
    rows, columns = measured.rows, measured.columns()
    costs: dict[str, dict[str, str]] = {}
    for cost in stored.costs(study):
        costs.setdefault(cost[rows], cost)
    found = []
    for row, cost in costs.items():
        scores = [list(measured.scores({**column, rows: row}).values()) for column in columns]
        mean = sum(sum(values) / len(values) for values in scores) / len(scores)
        trained = measured.cost('trained_parameters', {axis: cost[axis] for axis in measured.axes})
        cells = [
            ' '.join(filter(None, (row, cost['setting']))),
            *(format_mean(values) for values in scores),
            f'{trained:,.0f}',
            f'{float(cost["peak_memory_mib"]):.0f}',
            f'{1000 * float(cost["step_seconds"]):.0f}',
        ]
        found.append((mean, f'| {" | ".join(cells)} |'))
    names = [', '.join(column.values()) or measured.metric for column in columns]
    header = f'| {" | ".join([rows, *names, "trained", "peak MiB", "step ms"])} |'
    return '\n'.join(
        [header, '|---|' + '---:|' * (len(columns) + 3), *(line for _, line in sorted(found, reverse=True))]
    )


def _agreement(stored: StudyResults, study: str, where: dict[str, str]) -> str:
    count, against = where.get('count', ''), where.get('against', 'all')
    if count not in MEANINGS.values() or against not in AGAINST:
        raise EvidenceError(f'count must be one of {", ".join(MEANINGS.values())}, against one of {", ".join(AGAINST)}')
    return str(agreement(stored.study(study), against)[count])


def _source(stored: StudyResults, column: str, where: dict[str, str]) -> str:
    file = stored.folder / 'sources.csv'
    if not file.is_file():
        raise EvidenceError(f'{str(file)!r} does not exist; studies/evidence.py writes it')
    for row in csv.DictReader(file.read_text().splitlines()):
        if all(row.get(key) == value for key, value in where.items()):
            return f'{float(row[column]):.0f}' + (' %' if column == 'accuracy' else '')
    raise EvidenceError(f'{str(file)!r} has no such row')


COMMANDS: dict[str, Callable[[StudyResults, str, dict[str, str]], str]] = {
    'mean': _mean,
    'diff': _diff,
    'order': _order,
    'rank': _rank,
    'best': _best,
    'trained': lambda stored, study, where: f'{stored.study(study).cost("trained_parameters", where):,.0f}',
    'share': lambda stored, study, where: f'{100 * stored.study(study).cost("share", where):.1f} %',
    'rate': lambda stored, study, where: f'{stored.study(study).chosen(where)[0]:g}',
    'setting': lambda stored, study, where: stored.study(study).chosen(where)[1],
    'runs': lambda stored, study, where: str(stored.study(study).runs),
    'minutes': lambda stored, study, where: f'{stored.study(study).seconds / 60:.0f}',
    'tables': lambda stored, study, where: _tables(stored, study, lambda title: not title.startswith('Learning rates')),
    'costs': lambda stored, study, where: _tables(stored, study, lambda title: title.startswith('Learning rates')),
    'validation': _validation,
    'overview': _overview,
    'figure': lambda stored, study, where: f'![{study}]({stored.folder.name}/{study}.png)',
    'claims': lambda stored, study, where: claims_table(stored.study(study)),
    'count': _agreement,
    'source': _source,
}
