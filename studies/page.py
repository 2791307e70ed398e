"""``docs/evidence.md`` out of its template: every number in it is looked up in the studies' results."""

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from studies.claims import AGAINST, MEANINGS, agreement, claims_table, verdict
from studies.results import EvidenceError, Measured, paired, read_results, spread

_PLACEHOLDER = re.compile(r'\{\{\s*(.*?)\s*\}\}', re.DOTALL)


@dataclass(frozen=True)
class Kept:
    """Where the results of the studies lie beside the page, and how each is read.

    Args:
        folder (Path): Holds ``<study>.csv``, ``<study>.md``, ``<study>.png`` and ``<study>.svg``.
        rows (dict[str, str]): The compared axis of each study.
        metrics (dict[str, str]): The metric of each study.
        scales (dict[str, float]): What it is multiplied by, for those where that is not 1.
    """

    folder: Path
    rows: dict[str, str]
    metrics: dict[str, str]
    scales: dict[str, float] = field(default_factory=dict)

    def study(self, name: str) -> Measured:
        if name not in self.rows:
            raise EvidenceError(f'there is no study {name!r}, but {", ".join(self.rows)}')
        file = self.folder / f'{name}.csv'
        return read_results(name, file, self.rows[name], self.metrics[name], self.scales.get(name, 1))

    def has(self, name: str) -> bool:
        return (self.folder / f'{name}.csv').is_file()


def fill(template: str, kept: Kept) -> str:
    """Replace every ``{{command study axis=value …}}`` by what was measured.

    A section from ``<!-- if study -->`` to ``<!-- end -->`` stands only where the study was run; its ``<!-- else -->``
    part where it was not.

    Raises:
        EvidenceError: a placeholder asks for what there is not; it is named.
    """
    text = re.sub(
        r'<!-- if (\w+) -->\n(.*?)(?:<!-- else -->\n(.*?))?<!-- end -->\n',
        lambda found: found[2] if kept.has(found[1]) else (found[3] or ''),
        template,
        flags=re.DOTALL,
    )
    return _PLACEHOLDER.sub(lambda found: _value(found[1], kept), text)


def _value(placeholder: str, kept: Kept) -> str:
    command, *words = placeholder.split()
    if command not in COMMANDS or not words:
        raise EvidenceError(f'{{{{{placeholder}}}}}: the first word must be one of {", ".join(COMMANDS)}, then a study')
    try:
        where = dict(word.split('=', 1) for word in words[1:])
        return COMMANDS[command](kept, words[0], where)
    except (EvidenceError, ValueError) as error:
        raise EvidenceError(f'{{{{{placeholder}}}}}: {error}') from None


def _mean(kept: Kept, study: str, where: dict[str, str]) -> str:
    options = _named(where)
    return spread(list(kept.study(study).scores(where, **options).values()))


def _named(where: dict[str, str]) -> dict[str, str]:
    """``set=corrupted``, ``split=val`` and ``metric=aAcc``, out of what else names axes."""
    names = {'set': 'test', 'split': 'split', 'metric': 'metric'}
    return {names[word]: where.pop(word) for word in names if word in where}


def _diff(kept: Kept, study: str, where: dict[str, str]) -> str:
    """``tuning=pro/full``: how much the first is above the second, seed by seed; ≈ where that is within the noise."""
    options = _named(where)
    axis = next((axis for axis, value in where.items() if '/' in value), None)
    if axis is None:
        raise EvidenceError('one axis must name two values: tuning=pro/full')
    one, other = where[axis].split('/')
    measured = kept.study(study)
    differences = paired(
        measured.scores({**where, axis: one}, **options),
        measured.scores({**where, axis: other}, **options),
    )
    return spread(differences, '+') + (' ≈' if verdict(differences) == 'even' else '')


def _order(kept: Kept, study: str, where: dict[str, str]) -> str:
    return ', '.join(f'{name} {mean:.1f}' for name, mean in _ranked(kept.study(study), where))


def _rank(kept: Kept, study: str, where: dict[str, str]) -> str:
    measured = kept.study(study)
    row = where.pop(measured.rows)
    names = [name for name, _ in _ranked(measured, where)]
    if row not in names:
        raise EvidenceError(f'{row} was not run there, but {", ".join(names)}')
    return f'{names.index(row) + 1} of {len(names)}'


def _best(kept: Kept, study: str, where: dict[str, str]) -> str:
    return _ranked(kept.study(study), where)[0][0]


def _ranked(measured: Measured, where: dict[str, str]) -> list[tuple[str, float]]:
    test = where.pop('set', None)
    names = measured.values(measured.rows, where)
    scores = {name: list(measured.scores({**where, measured.rows: name}, test).values()) for name in names}
    means = [(name, sum(values) / len(values)) for name, values in scores.items()]
    if not means:
        raise EvidenceError('nothing was run there')
    return sorted(means, key=lambda each: -each[1])


def _tables(kept: Kept, study: str, wanted: Callable[[str], bool]) -> str:
    sections = re.split(r'^## ', (kept.folder / f'{study}.md').read_text(), flags=re.MULTILINE)[1:]
    found = []
    for section in sections:
        title, _, body = section.partition('\n')
        table = [line for line in body.splitlines() if line.startswith('|')]
        notes = [line for line in body.splitlines() if line.startswith('- ')]  # what the marks mean, after the last
        if wanted(title) and table:
            found.append('\n\n'.join(['\n'.join(lines) for lines in ([f'**{title}**'], table, notes) if lines]))
    return '\n\n'.join(found)


def _validation(kept: Kept, study: str, where: dict[str, str]) -> str:
    """What a choice among the rows may rest on: the metric on val, and its mean over the columns."""
    measured = kept.study(study)
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
        cells = ' | '.join(spread(values) + mark for values, mark in zip(found, marks))
        lines.append(f'| {row} | {cells} | {mean:.1f} |')
    return '\n'.join(lines)


def _agreement(kept: Kept, study: str, where: dict[str, str]) -> str:
    count, against = where.get('count', ''), where.get('against', 'all')
    if count not in MEANINGS.values() or against not in AGAINST:
        raise EvidenceError(f'count must be one of {", ".join(MEANINGS.values())}, against one of {", ".join(AGAINST)}')
    return str(agreement(kept.study(study), against)[count])


def _source(kept: Kept, column: str, where: dict[str, str]) -> str:
    file = kept.folder / 'sources.csv'
    if not file.is_file():
        raise EvidenceError(f'there is no {str(file)!r}: studies/evidence.py writes it')
    for row in csv.DictReader(file.read_text().splitlines()):
        if all(row.get(key) == value for key, value in where.items()):
            return f'{float(row[column]):.0f}' + (' %' if column == 'accuracy' else '')
    raise EvidenceError(f'{str(file)!r} has no such row')


COMMANDS: dict[str, Callable[[Kept, str, dict[str, str]], str]] = {
    'mean': _mean,
    'diff': _diff,
    'order': _order,
    'rank': _rank,
    'best': _best,
    'trained': lambda kept, study, where: f'{kept.study(study).cost("trained_parameters", where):,.0f}',
    'share': lambda kept, study, where: f'{100 * kept.study(study).cost("share", where):.1f} %',
    'runs': lambda kept, study, where: str(kept.study(study).runs),
    'minutes': lambda kept, study, where: f'{kept.study(study).seconds / 60:.0f}',
    'tables': lambda kept, study, where: _tables(kept, study, lambda title: not title.startswith('Learning rates')),
    'costs': lambda kept, study, where: _tables(kept, study, lambda title: title.startswith('Learning rates')),
    'validation': _validation,
    'figure': lambda kept, study, where: f'![{study}]({kept.folder.name}/{study}.png)',
    'claims': lambda kept, study, where: claims_table(kept.study(study)),
    'count': _agreement,
    'source': _source,
}
