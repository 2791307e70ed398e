"""Builds the tables of a study, for Markdown and HTML."""

import itertools
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from protuning_lab.study.definition import Study
from protuning_lab.study.summary import Overview, Summary

EDGE_MARK, FAILED_MARK = '†', '‡'


@dataclass(frozen=True)
class Entry:
    """The content of a table's cell.

    Args:
        text (str): The text to show.
        value (float, optional): The number to sort by.
        best (bool): Whether it is the best of its column.
    """

    text: str
    value: float | None = None
    best: bool = False


@dataclass
class Table:
    """A table: a title, a header and rows of entries."""

    title: str
    header: list[str]
    rows: list[list[Entry]] = field(default_factory=list)

    def is_number(self, column: int) -> bool:
        """Whether a column contains numbers."""
        return any(row[column].value is not None for row in self.rows)


def all_tables(overview: Overview) -> list[Table]:
    """Build the tables of the metric, and the table of learning rates and costs."""
    return [*metric_tables(overview), cost_table(overview)]


def panels(study: Study) -> Iterator[tuple[dict[str, str], list[dict[str, str]]]]:
    """Yield for each table the values of the axes that are neither rows nor columns, and the values of its columns."""
    layout = study.table
    others = [axis for axis in study.axes if axis not in (layout.rows, *layout.columns)]
    columns = [dict(zip(layout.columns, names)) for names in _product(study, layout.columns)]
    for names in _product(study, others):
        yield dict(zip(others, names)), columns


def _product(study: Study, axes: Sequence[str]) -> Iterator[tuple[str, ...]]:
    return itertools.product(*(study.axes[axis] for axis in axes))


def find_summary(summaries: Sequence[Summary], values: dict[str, str]) -> Summary | None:
    """Return the summary of the group with these axis values; None if the group was skipped or not selected."""
    return next((each for each in summaries if dict(each.group.values) == values), None)


def metric_tables(overview: Overview) -> Iterator[Table]:
    """Build one table for each test set and each combination of the axes that are neither rows nor columns."""
    study, layout = overview.study, overview.study.table
    for test in overview.tests:
        for fixed, columns in panels(study):
            qualifiers = [f'test set {test}'] if len(overview.tests) > 1 or test != 'test' else []
            qualifiers += [f'{axis} {name}' for axis, name in fixed.items()]
            table = Table(
                ', '.join([overview.metric, *qualifiers]),
                [layout.rows, *(', '.join(c.values()) or overview.metric for c in columns)],
            )
            for name in study.axes[layout.rows]:
                found = [find_summary(overview.summaries, fixed | column | {layout.rows: name}) for column in columns]
                if any(found):
                    table.rows.append([Entry(name), *(_score_entry(overview, each, test) for each in found)])
            _mark_best(table, layout.rule)
            if table.rows:
                yield table


def _score_entry(overview: Overview, summary: Summary | None, test: str) -> Entry:
    if summary is None:
        return Entry('–')
    study, layout = overview.study, overview.study.table
    scores = [score * layout.scale for score in summary.scores(test, overview.metric)]
    if not scores:
        return Entry('…')
    text = format_mean(scores, layout.digits)
    if len(scores) < len(study.seeds):
        text += f' (n={len(scores)})'
    return Entry(text + _format_marks(summary), statistics.fmean(scores))


def format_mean(values: Sequence[float], digits: int) -> str:
    """Format mean ± sample standard deviation, or a single value."""
    mean = f'{statistics.fmean(values):.{digits}f}'
    return f'{mean} ± {statistics.stdev(values):.{digits}f}' if len(values) > 1 else mean


def _format_marks(summary: Summary) -> str:
    choice = summary.choice
    marks = [EDGE_MARK] * bool(choice and choice.at_edge) + [FAILED_MARK] * bool(choice and choice.failed)
    return f' {"".join(marks)}' if marks else ''


def _mark_best(table: Table, rule: str) -> None:
    from pandas import DataFrame

    values = DataFrame([[entry.value for entry in row] for row in table.rows], dtype=float)
    best = values.eq(values.max() if rule == 'greater' else values.min()) & (values.count() > 1)
    for row, marks in zip(table.rows, best.to_numpy()):
        row[:] = [replace(entry, best=bool(mark)) for entry, mark in zip(row, marks)]


def cost_table(overview: Overview) -> Table:
    """Build the table of the chosen learning rate and the costs of each group."""
    study = overview.study
    search = study.learning_rate
    header = [*study.axes, 'learning rate', 'seeds']
    header += [f'validation {search.metric}'] if search else []
    table = Table('Learning rates and costs', [*header, 'trained', 'share', 'peak memory, MiB', 'step, ms', 'run, s'])
    for summary in overview.summaries:
        row = [Entry(value) for _, value in summary.group.values]
        row += [_rate_entry(summary), Entry(str(len(summary.results)), len(summary.results))]
        if search is not None:
            scores = [score * study.table.scale for score in summary.validation(search.metric)]
            row.append(
                Entry(format_mean(scores, study.table.digits), statistics.fmean(scores)) if scores else Entry('…')
            )
        row += [
            _number_entry(summary.median('trained_parameters'), '{:,.0f}'),
            _number_entry(summary.median('share'), '{:.2%}'),
            _number_entry(summary.median('peak_memory_mib'), '{:.1f}'),
            _number_entry(summary.median('step_seconds'), '{:.1f}', 1e3),
            _number_entry(summary.median('seconds'), '{:.1f}'),
        ]
        table.rows.append(row)
    return table


def _rate_entry(summary: Summary) -> Entry:
    if summary.choice is None:
        return Entry('…')
    rate = summary.choice.learning_rate
    setting = '' if summary.choice.setting is None else f', {summary.choice.setting}'
    text = "config's" if rate is None else f'{rate:g}'
    return Entry(text + setting + _format_marks(summary), rate)


def _number_entry(value: float | None, form: str, scale: float = 1.0) -> Entry:
    return Entry('…') if value is None else Entry(form.format(value * scale), value * scale)


def list_notes(overview: Overview) -> list[str]:
    """Explain the marks and how the numbers were measured."""
    study = overview.study
    notes = [
        f'Mean ± sample standard deviation over {len(study.seeds)} seeds ({", ".join(map(str, study.seeds))}). If '
        'results are missing, n is the number of available seeds. The best value of a column is bold.'
    ]
    search = study.learning_rate
    if search is not None:
        seeds = f'seed{"s" if len(search.seeds) > 1 else ""} {", ".join(map(str, search.seeds))}'
        both = any(each.group.settings != (None,) for each in overview.summaries)
        chosen, verb = ('The learning rate and the setting', 'were') if both else ('The learning rate', 'was')
        notes.append(
            f'{chosen} of each row {verb} chosen by mean validation {search.metric} ({seeds}), '
            + (
                'BUT VALIDATION AND TEST MAY BE THE SAME DATA: the study sets allow_test_as_validation, so the test '
                'results are too good.'
                if study.allow_test_as_validation
                else 'without using test data.'
            )
        )
    choices = [each.choice for each in overview.summaries if each.choice is not None]
    if any(choice.at_edge for choice in choices):
        notes.append(
            f'{EDGE_MARK} The best learning rate is at the edge of those tried: a better one may lie outside the grid.'
        )
    if any(choice.failed for choice in choices):
        notes.append(f'{FAILED_MARK} A candidate could not be compared, because one of its runs failed.')
    return [*notes, *_measurement_notes(overview)]


def _measurement_notes(overview: Overview) -> list[str]:
    methods = {result['memory_measured_by'] for result in overview.results.values()}
    notes = []
    if 'profiled step' in methods:
        notes.append(
            'Peak memory on a CPU: weights, buffers and optimizer state, plus the peak of what one training step '
            'allocates on top of them (torch profiler).'
        )
    if 'CUDA allocator' in methods:
        notes.append('Peak memory on CUDA: the peak of the allocator during training.')
    notes.append(
        'Step: median time of forward, backward and update, without loading. Run: total time, including evaluation.'
    )
    return notes
