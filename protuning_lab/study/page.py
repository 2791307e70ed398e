"""Renders ``index.html``: one file that loads nothing from elsewhere."""

import html
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from protuning_lab.study.grid import describe_skipped
from protuning_lab.study.plots import Plot
from protuning_lab.study.summary import Overview
from protuning_lab.study.tables import Entry, Table, cost_table, list_notes, metric_tables

_HERE = Path(__file__).parent


def render_page(overview: Overview, plots: Mapping[str, Plot]) -> str:
    """Render the whole page."""
    study = overview.study
    parts = [
        _header(overview),
        *(_figure(plot) for plot in plots.values()),
        *(_table(table, study.table.highlight) for table in metric_tables(overview)),
        _table(cost_table(overview), study.table.highlight, filterable=True),
        _list('How to read this', list_notes(overview)),
        _list('Skipped combinations', [f'{what}: {why}' for what, why in describe_skipped(study)]),
        _list('Failed runs', [f'{cell.name}: {error}' for cell, error in overview.failed.items()]),
        _list('Ignored results: made with another config', overview.stale),
        _study_source(study.path),
        _footer(overview),
    ]
    style, script = ((_HERE / name).read_text() for name in ('page.css', 'page.js'))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<title>{html.escape(study.title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n'
        + '\n'.join(part for part in parts if part)
        + f'\n</main>\n<div id="sort-status" aria-live="polite"></div>\n<script>\n{script}</script>\n</body>\n</html>\n'
    )


def _header(overview: Overview) -> str:
    study = overview.study
    done = len(overview.results)
    counts = [('runs done', str(done)), ('groups', str(len(overview.summaries))), ('seeds', str(len(study.seeds)))]
    counts += [(name, str(number)) for name, number in (('missing', overview.missing),) if number]
    counts += [('failed', str(len(overview.failed)))] if overview.failed else []
    tiles = ''.join(
        f'<div class="{"bad" if name in ("failed", "missing") else ""}"><dt>{name}</dt><dd>{number}</dd></div>'
        for name, number in counts
    )
    axes = ' × '.join(f'{html.escape(axis)} ({len(values)})' for axis, values in study.axes.items())
    return f'<header><h1>{html.escape(study.title)}</h1><p>{axes}</p><dl class="tiles">{tiles}</dl></header>'


def _figure(plot: Plot) -> str:
    return f'<figure><h2>{html.escape(plot.title)}</h2><div class="plot">{plot.inline}</div></figure>'


def _table(table: Table, highlight: str | None, filterable: bool = False) -> str:
    title = html.escape(table.title)
    classes = [_column_class(table, i) for i in range(len(table.header))]
    head = ''.join(
        f'<th scope="col" class="{each}"><button type="button">{html.escape(name)}</button></th>'
        for name, each in zip(table.header, classes)
    )
    rows = ''.join(
        f'<tr{_row_class(row, highlight)}>{"".join(_cell(*each) for each in zip(row, classes))}</tr>\n'
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


def _row_class(row: list[Entry], highlight: str | None) -> str:
    return ' class="highlighted"' if highlight in [entry.text for entry in row] else ''


def _column_class(table: Table, column: int) -> str:
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


def _study_source(path: Path) -> str:
    return (
        f'<details><summary>The study: {html.escape(path.name)}</summary><pre><code>{html.escape(path.read_text())}'
        '</code></pre></details>'
    )


def _footer(overview: Overview) -> str:
    machines = dict.fromkeys(_describe_machines(overview))
    versions = dict.fromkeys(
        ', '.join(f'{name} {number}' for name, number in result['versions'].items())
        for result in overview.results.values()
    )
    lines = [*machines, *versions]
    return f'<footer>{"".join(f"<p>{html.escape(line)}</p>" for line in lines)}</footer>'


def _describe_machines(overview: Overview) -> Iterator[str]:
    for result in overview.results.values():
        found = result['machine']
        device = '' if found['device'] == 'CPU' else f', {found["device"]}'
        parallel = f'parallel runs: {result.get("jobs", 1)}, threads per run: {result["threads"]}'
        yield f'Run on {found["cpu"]}, {found["cores"]} cores{device}; {parallel}'
