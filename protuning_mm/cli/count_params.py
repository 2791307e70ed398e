"""``tools/analysis_tools/count_params.py``: count the trained and frozen parameters of one or several configs."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from protuning_mm.cli.command import command
from protuning_mm.cli.flags import add_cfg_options
from protuning_mm.engine import ParameterTable, count_parameters
from protuning_mm.engine.build_model import build_model
from protuning_mm.engine.config import read_config

# where the configs are, in a checkout and in an installed package
CONFIGS = Path(__file__).resolve().parents[1] / '.mim/configs'


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Count the trained and frozen parameters of one or several configs')
    parser.add_argument('configs', nargs='+', metavar='CONFIG', help='path of a config; several are shown side by side')
    parser.add_argument('--json', action='store_true', help='print JSON instead of a table')
    parser.add_argument('--markdown', action='store_true', help='print Markdown instead of a table')
    add_cfg_options(parser, 'override settings of every config')
    return parser.parse_args(argv)


def count_config(config: str, options: dict[str, object] | None = None) -> ParameterTable:
    """Build a config's model, without loading weights, and count its parameters.

    Args:
        config (str): Path of the config.
        options (dict, optional): Settings to override.
    """
    return count_parameters(build_model(read_config(config, options)))


def _rows(tables: dict[str, ParameterTable]) -> list[list[str]]:
    """Return one row per part, with two columns per config: millions of trained and of frozen parameters."""
    names = list(tables)
    parts = list(dict.fromkeys(part.name for table in tables.values() for part in table.parts))
    rows = [['M parameters', *(text for name in names for text in (name, ''))]]
    rows += [['', *(['trained', 'frozen'] * len(names))]]
    for part in parts:
        row = [part]
        for table in tables.values():
            found = next((p for p in table.parts if p.name == part), None)
            row += [_in_millions(found.trained), _in_millions(found.frozen)] if found else ['-', '-']
        rows.append(row)
    rows.append(
        ['total'] + [text for t in tables.values() for text in (_in_millions(t.trained), _in_millions(t.frozen))]
    )
    rows.append(['full fine-tuning'] + [text for t in tables.values() for text in (_in_millions(t.full), '')])
    rows.append(['share of full'] + [text for t in tables.values() for text in (f'{t.share:.1%}', '')])
    return rows


def format_markdown(tables: dict[str, ParameterTable]) -> str:
    """Format the tables of several configs as one Markdown table."""
    names, kinds, *rows = _rows(tables)
    head = [names[0]] + [f'{names[i - (i + 1) % 2]}, {kinds[i]}' for i in range(1, len(names))]
    lines = [head, ['---'] + ['---:'] * (len(head) - 1), *rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def format_text(tables: dict[str, ParameterTable]) -> str:
    """Format the tables of several configs as one table for a terminal."""
    names, rows = list(tables), _rows(tables)
    widths = [max(len(row[i]) for row in rows[1:]) for i in range(len(rows[0]))]
    for i in range(len(names)):  # a config's name spans its two columns
        short = widths[2 * i + 1] + widths[2 * i + 2] + 2 - len(names[i])
        widths[2 * i + 1] += max(0, -short)
    lines = []
    for row in rows:
        cells = [f'{row[0]:<{widths[0]}}']
        if row is rows[0]:
            cells += [f'{name:>{widths[2 * i + 1] + widths[2 * i + 2] + 2}}' for i, name in enumerate(names)]
        else:
            cells += [f'{cell:>{width}}' for cell, width in zip(row[1:], widths[1:])]
        lines.append('  '.join(cells))
    return '\n'.join(lines)


@command
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    tables = {Path(path).stem: count_config(path, args.cfg_options) for path in args.configs}
    if args.json:
        print(json.dumps({name: table.to_dict() for name, table in tables.items()}, indent=2))
    elif args.markdown:
        print(format_markdown(tables))
    else:
        print(format_text(tables))


def _in_millions(count: int) -> str:
    return f'{count / 1e6:.2f}'


if __name__ == '__main__':
    main()
