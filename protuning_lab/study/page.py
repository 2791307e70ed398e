"""``index.html``: one file that holds all it needs."""

import html
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from protuning_lab.study.figure import Plot
from protuning_lab.study.grid import skipped_groups
from protuning_lab.study.summary import Overview
from protuning_lab.study.tables import Entry, Table, cost_table, metric_tables, notes

_HERE = Path(__file__).parent


def as_page(overview: Overview, plots: Mapping[str, Plot]) -> str:
    """The whole page."""
    study = overview.study
    parts = [
        _head(overview),
        *(_figure(plot) for plot in plots.values()),
        *(_table(table, study.table.highlight) for table in metric_tables(overview)),
        _table(cost_table(overview), study.table.highlight, filterable=True),
        _list('How to read this', notes(overview)),
        _list('Combinations that do not exist', [f'{what}: {why}' for what, why in skipped_groups(study)]),
        _list('Failed runs', [f'{cell.name}: {error}' for cell, error in overview.failed.items()]),
        _list('Results made with another config, not used', overview.stale),
        _study_text(study.path),
        _made_with(overview),
    ]
    style, script = ((_HERE / name).read_text() for name in ('page.css', 'page.js'))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<title>{html.escape(study.title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n'
        + '\n'.join(part for part in parts if part)
        + f'\n</main>\n<div id="told" aria-live="polite"></div>\n<script>\n{script}</script>\n</body>\n</html>\n'
    )


def _head(overview: Overview) -> str:
    study = overview.study
    done = len(overview.results)
    told = [('runs done', str(done)), ('groups', str(len(overview.summaries))), ('seeds', str(len(study.seeds)))]
    told += [(name, str(number)) for name, number in (('missing', overview.missing),) if number]
    told += [('failed', str(len(overview.failed)))] if overview.failed else []
    tiles = ''.join(
        f'<div class="{"bad" if name in ("failed", "missing") else ""}"><dt>{name}</dt><dd>{number}</dd></div>'
        for name, number in told
    )
    axes = ' × '.join(f'{html.escape(axis)} ({len(values)})' for axis, values in study.axes.items())
    return f'<header><h1>{html.escape(study.title)}</h1><p>{axes}</p><dl class="tiles">{tiles}</dl></header>'


def _figure(plot: Plot) -> str:
    return f'<figure><h2>{html.escape(plot.title)}</h2><div class="plot">{plot.inline}</div></figure>'


def _table(table: Table, highlight: str | None, filterable: bool = False) -> str:
    title = html.escape(table.title)
    head = ''.join(
        f'<th scope="col" class="{_kind(table, i)}"><button type="button">{html.escape(name)}</button></th>'
        for i, name in enumerate(table.header)
    )
    rows = ''.join(
        f'<tr{_mark(row, highlight)}>{"".join(_cell(entry, _kind(table, i)) for i, entry in enumerate(row))}</tr>\n'
        for row in table.rows
    )
    search = (
        f'<input type="search" placeholder="Filter rows" aria-label="Filter the rows of: {title}">'
        if filterable
        else ''
    )
    return (
        f'<section><div class="over"><h2>{title}</h2>{search}</div><div class="scroll" tabindex="0" role="region" '
        f'aria-label="{title}"><table><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table></div></section>'
    )


def _mark(row: list[Entry], highlight: str | None) -> str:
    return ' class="set-off"' if highlight in [entry.text for entry in row] else ''


def _kind(table: Table, column: int) -> str:
    return 'number' if table.is_number(column) else 'text'


def _cell(entry: Entry, kind: str) -> str:
    sorted_by = f' data-value="{json.dumps(entry.value)}"' if entry.value is not None else ''
    text = html.escape(entry.text)
    return f'<td class="{kind}{" best" if entry.best else ""}"{sorted_by}>{text}</td>'


def _list(title: str, lines: list[str]) -> str:
    if not lines:
        return ''
    items = ''.join(f'<li>{html.escape(line)}</li>' for line in lines)
    return f'<section><h2>{html.escape(title)}</h2><ul>{items}</ul></section>'


def _study_text(path: Path) -> str:
    return (
        f'<details><summary>The study: {html.escape(path.name)}</summary><pre><code>{html.escape(path.read_text())}'
        '</code></pre></details>'
    )


def _made_with(overview: Overview) -> str:
    machines = dict.fromkeys(_machines(overview))
    versions = dict.fromkeys(
        ', '.join(f'{name} {number}' for name, number in result['versions'].items())
        for result in overview.results.values()
    )
    lines = [*machines, *versions]
    return f'<footer>{"".join(f"<p>{html.escape(line)}</p>" for line in lines)}</footer>'


def _machines(overview: Overview) -> Iterator[str]:
    for result in overview.results.values():
        found = result['machine']
        device = '' if found['device'] == 'CPU' else f', {found["device"]}'
        at_once = f'runs at once: {result.get("jobs", 1)}, threads a run: {result["threads"]}'
        yield f'Made on {found["cpu"]}, {found["cores"]} cores{device}; {at_once}'
