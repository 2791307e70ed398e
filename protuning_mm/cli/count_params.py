"""``tools/analysis_tools/count_params.py``: count the trained and frozen parameters of one or several configs."""

import argparse
import json
from collections.abc import Sequence
from itertools import chain
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


def _rows(tables: Sequence[ParameterTable]) -> dict[str, list[tuple[str, str]]]:
    """Return millions of trained and of frozen parameters: one row per part, with one pair of cells per config."""
    columns = [{part.name: (_in_millions(part.trained), _in_millions(part.frozen)) for part in t.parts} for t in tables]
    parts = dict.fromkeys(part.name for table in tables for part in table.parts)
    rows = {part: [column.get(part, ('-', '-')) for column in columns] for part in parts}
    rows['total'] = [(_in_millions(table.trained), _in_millions(table.frozen)) for table in tables]
    rows['full fine-tuning'] = [(_in_millions(table.full), '') for table in tables]
    rows['share of full'] = [(f'{table.share:.1%}', '') for table in tables]
    return rows


def format_markdown(tables: dict[str, ParameterTable]) -> str:
    """Format the tables of several configs as one Markdown table."""
    head = ['M parameters', *(f'{name}, {kind}' for name in tables for kind in ('trained', 'frozen'))]
    lines = [head, ['---'] + ['---:'] * (len(head) - 1)]
    lines += [[label, *chain.from_iterable(pairs)] for label, pairs in _rows([*tables.values()]).items()]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def format_text(tables: dict[str, ParameterTable]) -> str:
    """Format the tables of several configs as one table for a terminal."""
    rows = {'': [('trained', 'frozen')] * len(tables), **_rows([*tables.values()])}
    labels = ['M parameters', *rows]
    width = max(map(len, labels))
    columns = [[f'{label:<{width}}' for label in labels]]
    for name, pairs in zip(tables, zip(*rows.values())):
        left, right = (max(map(len, cells)) for cells in zip(*pairs))
        left = max(left, len(name) - right - 2)  # a config's name spans its two columns
        columns.append([f'{name:>{left + right + 2}}', *(f'{one:>{left}}  {two:>{right}}' for one, two in pairs)])
    return '\n'.join('  '.join(line) for line in zip(*columns))


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
