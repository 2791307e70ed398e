"""Renders the tables of a study as Markdown."""

from collections.abc import Iterator
from pathlib import Path

from protuning_lab.study.grid import describe_skipped
from protuning_lab.study.summary import Overview
from protuning_lab.study.tables import Entry, Table, all_tables, list_notes

STILL_MISSING = 'are still missing'  # marks the tables of an incomplete study


def render_markdown(overview: Overview) -> str:
    """Render all tables, their notes, and the skipped, failed and stale runs."""
    study = overview.study
    lines = [f'# {study.title}', '', _describe_progress(overview), '']
    for table in all_tables(overview):
        lines += [f'## {table.title}', '', *_table(table), '']
    lines += [f'- {note}' for note in list_notes(overview)]
    if study.skip:
        lines += ['', '## Skipped combinations', '']
        lines += [f'- {what}: {why}' for what, why in describe_skipped(study)]
    if overview.failed:
        lines += ['', '## Failed runs', '']
        lines += [f'- `{cell.name}`: {error}' for cell, error in overview.failed.items()]
    if overview.stale:
        lines += ['', '## Ignored results: made with another config', '']
        lines += [f'- `{name}`' for name in overview.stale]
    return '\n'.join(lines) + '\n'


def _describe_progress(overview: Overview) -> str:
    text = f'Made by `tools/study.py {_relative_to_working_dir(overview.study.path)}` from {len(overview.results)} runs'
    if overview.failed:
        text += f'; {len(overview.failed)} failed'
    return text + (f'; {overview.missing} {STILL_MISSING}.' if overview.missing else '.')


def _relative_to_working_dir(path: Path) -> Path:
    """Shorten a path, because readers of a report have other folders on their machines."""
    path, here = path.resolve(), Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else Path(path.name)


def _table(table: Table) -> Iterator[str]:
    numeric = [table.is_number(i) for i in range(len(table.header))]
    yield '| ' + ' | '.join(table.header) + ' |'
    yield '|' + '|'.join('---:' if each else '---' for each in numeric) + '|'
    for row in table.rows:
        yield '| ' + ' | '.join(_entry(entry) for entry in row) + ' |'


def _entry(entry: Entry) -> str:
    return f'**{entry.text}**' if entry.best else entry.text
