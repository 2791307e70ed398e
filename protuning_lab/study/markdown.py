"""Writes ``tables.md``."""

from collections.abc import Iterator
from pathlib import Path

from protuning_lab.study.grid import skipped_groups
from protuning_lab.study.summary import Overview
from protuning_lab.study.tables import Entry, Table, all_tables, notes


def as_markdown(overview: Overview) -> str:
    """Format all tables, their notes, and the skipped, failed and stale runs."""
    study = overview.study
    lines = [f'# {study.title}', '', _state(overview), '']
    for table in all_tables(overview):
        lines += [f'## {table.title}', '', *_table(table), '']
    lines += [f'- {note}' for note in notes(overview)]
    if study.skip:
        lines += ['', '## Combinations that do not exist', '']
        lines += [f'- {what}: {why}' for what, why in skipped_groups(study)]
    if overview.failed:
        lines += ['', '## Failed runs', '']
        lines += [f'- `{cell.name}`: {error}' for cell, error in overview.failed.items()]
    if overview.stale:
        lines += ['', '## Results that were made with another config, and are not used', '']
        lines += [f'- `{name}`' for name in overview.stale]
    return '\n'.join(lines) + '\n'


def _state(overview: Overview) -> str:
    said = f'Made by `tools/study.py {_here(overview.study.path)}` of {len(overview.results)} runs'
    if overview.failed:
        said += f'; {len(overview.failed)} failed'
    return said + (f'; {overview.missing} are still missing.' if overview.missing else '.')


def _here(path: Path) -> Path:
    """Shorten a path to the working directory, since readers of a report have other folders."""
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
