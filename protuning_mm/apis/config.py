"""From what is on the command line to the config of a run."""

import argparse
import os
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict, DictAction


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that ``train.py`` and ``test.py`` of the hosts share."""
    parser.add_argument('--work-dir', help='folder for logs, checkpoints and results')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='override settings of the config, as key=value; key="[a,b]" or key=a,b for a list. data_root=FOLDER moves '
        'every path of the config that lies in its data_root.',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher',
    )
    # torch.distributed.launch passes --local-rank, torchrun the environment variable.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def load_config(args: argparse.Namespace) -> Config:
    """Read the config and lay the command line's common flags over it.

    Raises:
        SystemExit: the config does not exist.
    """
    if not Path(args.config).is_file():
        raise SystemExit(f'error: there is no config {args.config!r} in {Path.cwd()}')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = Config.fromfile(args.config)
    cfg.launcher = args.launcher
    options = dict(args.cfg_options or {})
    if 'data_root' in options and isinstance(cfg.get('data_root'), str):
        move_data_root(cfg, cfg.data_root, options['data_root'])
    cfg.merge_from_dict(options)
    # priority: command line > config > the config's name
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    return cfg


def move_data_root(cfg: Config, old: str, new: str) -> None:
    """Move every path of a config that begins with ``old`` to ``new``.

    A config's ``data_root`` is a variable that its data sets copied when it was parsed: overriding it alone would
    change nothing.

    Args:
        cfg (Config): Changed in place.
        old (str): The data root that the config was written with.
        new (str): The folder to look in.
    """
    base, target = old.rstrip('/'), str(new).rstrip('/')

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            for key in value:
                value[key] = moved(value[key])
            return value
        if isinstance(value, list | tuple):
            return type(value)(moved(item) for item in value)
        if isinstance(value, str) and (value.rstrip('/') == base or value.startswith(f'{base}/')):
            return target + value[len(base) :]
        return value

    for key in list(cfg.keys()):
        if isinstance(cfg[key], ConfigDict | list | tuple | str):
            cfg[key] = moved(cfg[key])
