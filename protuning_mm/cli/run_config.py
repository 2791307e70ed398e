"""The flags that train.py, test.py and doctor.py share, and the config with these flags applied."""

import argparse
import os
from pathlib import Path

from mmengine.config import Config

from protuning_mm.cli.flags import add_cfg_options
from protuning_mm.engine.config import lay_options, move_data_root, read_config
from protuning_mm.engine.shortcuts import SHORTCUTS, lay_cached_features
from protuning_mm.engine.tune_config import parse_tuning, tune_config


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the config, and the flags that the hosts' ``train.py`` and ``test.py`` share."""
    parser.add_argument('config', help='path of the config, or a config of an installed package, as mmdet::<path>')
    parser.add_argument('--work-dir', help='folder for logs, checkpoints and results')
    parser.add_argument(
        '--tune',
        metavar='TUNING',
        help="freeze the config's backbone and tune it: pro, '{type: lora, rank: 8}', … Applied after --cfg-options. "
        'The config that the run writes to its work dir contains the tuning and needs no flag',
    )
    parser.add_argument(
        '--data-folder',
        metavar='FOLDER',
        help='train and evaluate on a folder that protuning data convert has written; numbers of classes follow it',
    )
    add_cfg_options(
        parser,
        'override settings of the config; KEY="[a,b]" or KEY=a,b for a list. data_root=FOLDER replaces the data root '
        'in every path of the config',
    )
    launchers = ('none', 'pytorch', 'slurm', 'mpi')
    parser.add_argument('--launcher', choices=launchers, default='none', help='job launcher')
    rank = 'set by torch.distributed.launch; torchrun sets an environment variable instead'
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=rank)


def load_config(args: argparse.Namespace) -> Config:
    """Read the config and apply the common flags to it.

    Raises:
        ConfigError: the config cannot be read, or an option does not fit it.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    options = dict(args.cfg_options or {})
    if args.data_folder is not None:
        options['data'] = args.data_folder
    cached = {key: options.pop(key) for key in [*options] if key.partition('.')[0] == 'cache_features'}
    # in place of those of the file; the other options may change what they stand for
    short = {key: options.pop(key) for key in SHORTCUTS if key in options}
    cfg = read_config(args.config, short | (dict(cache_features=False) if cached else {}))
    cfg.launcher = args.launcher
    if 'data_root' in options and isinstance(cfg.get('data_root'), str):
        move_data_root(cfg, cfg.data_root, options['data_root'])
    lay_options(cfg, options)
    if args.tune is not None:
        cfg = tune_config(cfg, parse_tuning(args.tune))
    if cached:  # last, because the other options address the data set without its wrapper
        given = Config()
        lay_options(given, cached)
        cfg = lay_cached_features(cfg, given.cache_features)
    # priority: command line, config, name of the config file
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(args.config.rpartition('::')[2]).stem)
    return cfg
