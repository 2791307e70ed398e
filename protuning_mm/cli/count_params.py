"""``tools/analysis_tools/count_params.py``: what is trained and what is frozen, for one config or several."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from protuning_mm.cli.command import command
from protuning_mm.cli.flags import add_cfg_options
from protuning_mm.cli.parameter_grid import as_markdown, count_grid
from protuning_mm.engine import ParameterTable, count_parameters
from protuning_mm.engine.build_model import build_model
from protuning_mm.engine.config import read_config

# in a checkout beside the package, in an installed package inside it
CONFIGS = Path(__file__).resolve().parents[1] / '.mim/configs'


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Count trained and frozen parameters, several configs side by side')
    parser.add_argument('configs', nargs='*', metavar='CONFIG', help='paths of configs')
    parser.add_argument('--json', action='store_true', help='print JSON instead of a table')
    parser.add_argument('--markdown', action='store_true', help='print Markdown instead of a table')
    parser.add_argument(
        '--grid', action='store_true', help="every tuning on the paper's backbones and tasks, instead of configs"
    )
    add_cfg_options(parser, 'override settings of every config')
    return parser.parse_args(argv)


def table_of(config: str, options: dict[str, object] | None = None) -> ParameterTable:
    """Build a config's model, without loading any weights, and count its parameters.

    Args:
        config (str): Path of the config.
        options (dict, optional): Settings to override.
    """
    return count_parameters(build_model(read_config(config, options)))


def _rows(tables: dict[str, ParameterTable]) -> list[list[str]]:
    """A row a part, two columns (trained, frozen; millions) a config."""
    names = list(tables)
    parts = list(dict.fromkeys(part.name for table in tables.values() for part in table.parts))
    rows = [['M parameters', *(text for name in names for text in (name, ''))]]
    rows += [['', *(['trained', 'frozen'] * len(names))]]
    for part in parts:
        row = [part]
        for table in tables.values():
            found = next((p for p in table.parts if p.name == part), None)
            row += [_millions(found.trained), _millions(found.frozen)] if found else ['-', '-']
        rows.append(row)
    rows.append(['total'] + [text for t in tables.values() for text in (_millions(t.trained), _millions(t.frozen))])
    rows.append(['full fine-tuning'] + [text for t in tables.values() for text in (_millions(t.full), '')])
    rows.append(['share of full'] + [text for t in tables.values() for text in (f'{t.share:.1%}', '')])
    return rows


def in_markdown(tables: dict[str, ParameterTable]) -> str:
    """Format several tables for Markdown."""
    names, kinds, *rows = _rows(tables)
    head = [names[0]] + [f'{names[i - (i + 1) % 2]}, {kinds[i]}' for i in range(1, len(names))]
    lines = [head, ['---'] + ['---:'] * (len(head) - 1), *rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def side_by_side(tables: dict[str, ParameterTable]) -> str:
    """Format several tables for a terminal."""
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
    if args.grid:
        counted = count_grid(Path(args.configs[0]) if args.configs else CONFIGS)
        print(json.dumps(counted, indent=2) if args.json else as_markdown(counted))
        return
    if not args.configs:
        raise SystemExit('error: name one config or several, or --grid')
    tables = {Path(path).stem: table_of(path, args.cfg_options) for path in args.configs}
    if args.json:
        print(json.dumps({name: table.to_dict() for name, table in tables.items()}, indent=2))
    elif args.markdown:
        print(in_markdown(tables))
    else:
        print(side_by_side(tables))


def _millions(count: int) -> str:
    return f'{count / 1e6:.2f}'


if __name__ == '__main__':
    main()
