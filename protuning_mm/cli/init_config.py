"""``protuning init``: write a short config for a folder of data, with a size and a batch that fit the memory."""

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from protuning_mm.cli.command import command
from protuning_mm.cli.flags import add_device, at_least
from protuning_mm.cli.init_plan import (
    METRICS,
    MODELS,
    MULTIPLE,
    Plan,
    choose_model,
    choose_repeats,
    find_base_batch,
    find_least_batch,
    fit_memory,
    fitting_batch,
)
from protuning_mm.conversion import convert_data
from protuning_mm.data.data_folder import NAME, DataFolder, read_data_folder
from protuning_mm.doctor.checks import Report, run_checks
from protuning_mm.doctor.training_setup import TrainingSetup
from protuning_mm.engine.config import read_config
from protuning_mm.engine.errors import ConfigError
from protuning_mm.engine.image_size import find_training_size
from protuning_mm.engine.tune_config import TUNED, parse_tuning

_USED = 0.9  # share of the memory to fill


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    names = '; '.join(f'{task}: {", ".join(models)}' for task, models in MODELS.items())
    parser = argparse.ArgumentParser(
        description='Write a short config for a folder of data. Image size and batch size are chosen by measuring a '
        'training step. On a terminal, the command asks for what no flag gives'
    )
    parser.add_argument('data', help='the folder: converted by protuning data convert, or as another tool wrote it')
    parser.add_argument('config', help='the config to write, such as my_config.py')
    parser.add_argument('--model', help=f'{names}; or any config, such as mmdet::atss/atss_r50_fpn_1x_coco.py')
    parser.add_argument('--tune', metavar='TUNING', help="pro (the default), '{type: lora, rank: 8}', …")
    parser.add_argument(
        '--memory',
        metavar='GB',
        help='memory to use; defaults to what is free on the device, or half of RAM',
    )
    parser.add_argument('--image-side', type=at_least(MULTIPLE), help='longer side of the training images in pixels')
    parser.add_argument('--batch-size', type=at_least(1), help='images per training step')
    parser.add_argument('--weights', help="file of the backbone's weights, in place of those that the model names")
    add_device(parser)
    return parser.parse_args(argv)


def _ask(question: str, default: str) -> str:
    if not sys.stdin.isatty():
        return default
    return input(f'{question} [{default}]: ').strip() or default


def _read_data(path: str, config: Path) -> DataFolder:
    """Read a folder of data; convert it if another tool wrote it, to a folder beside the config."""
    if (Path(path).expanduser() / NAME).is_file() or not Path(path).expanduser().exists():
        return read_data_folder(path)
    out = config.with_name(f'{config.stem}_data')
    folder, findings = convert_data(path, out)
    print(f'{path} is converted to {out}: {folder.task}, {len(folder.classes)} classes')
    for line in findings:
        print(f'  {line}')
    return folder


def _free_memory(device: str) -> float:
    """Return the GB that are free on a GPU, or half of the RAM that is available."""
    if torch.device(device).type == 'cuda':
        return torch.cuda.mem_get_info(device)[0] / 1e9
    return os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2e9


def _check(plan: Plan, config: Path, device: str) -> Report:
    """Check the config that a plan writes; it is read from a file beside the one to be written."""
    trial = config.with_name(f'.{config.stem}_trial.py')
    trial.write_text(plan.write())
    try:
        cfg = read_config(trial)
    finally:
        trial.unlink()
    return run_checks(TrainingSetup(cfg, device=device))


def _parse_memory(answer: str) -> float:
    try:
        memory = float(answer.upper().removesuffix('GB').strip())
    except ValueError:
        memory = 0.0
    if not 0 < memory < math.inf:
        raise ConfigError(f'memory {answer!r}: give a number of GB, such as 8')
    return memory


def make_plan(args: argparse.Namespace, folder: DataFolder, config: Path) -> tuple[Plan, Report]:
    """Choose all settings, and check the config.

    Raises:
        ConfigError: the model or the tuning does not exist, or no setting fits the memory.
    """
    default = next(iter(MODELS[folder.task])) if not folder.masks else 'mask-rcnn'
    offered = ', '.join(MODELS[folder.task])
    name = args.model or _ask(f'Model for {folder.task} ({offered})', default)
    base = choose_model(folder.task, folder.masks, name)
    cfg = read_config(base)
    tuned = str(cfg.model.backbone.get('type', '')).rpartition('.')[2] == TUNED
    tune = args.tune or (None if tuned else _ask('Tuning', 'pro'))
    memory = _parse_memory(args.memory or _ask('Memory in GB', f'{_free_memory(args.device):.1f}'))
    size = find_training_size(cfg)
    least = find_least_batch(cfg)
    plan = Plan(
        base=base,
        data=str(folder.path),
        repeats=1,
        tuning=None if tune is None else parse_tuning(tune),
        side=args.image_side,
        batch=args.batch_size or fitting_batch(cfg.train_dataloader.batch_size, folder.splits['train'].count, least),
        workers=max(1, min(cfg.train_dataloader.get('num_workers', 1), os.cpu_count() or 1)),
        base_batch=find_base_batch(base, cfg),
        weights=args.weights and str(Path(args.weights).absolute()),
        wrapped=tuned,
        metric=METRICS[folder.task],
    )
    report = _check(plan, config, args.device)
    found = report.estimates
    if found is not None and found.memory is not None and found.memory_per_image is not None and size is not None:
        side = plan.side or max(size)
        fixed = found.memory - plan.batch * found.memory_per_image
        fitted = fit_memory(
            fixed,
            found.memory_per_image,
            memory * 1e9 * _USED,
            plan.batch,
            side,
            args.image_side is not None,
            args.batch_size is not None,
            least,
        )
        if fitted is None:
            raise ConfigError(
                f'a training step of one image of side {side} needs {(fixed + found.memory_per_image) / 1e9:.1f} GB, '
                f'and {memory:.1f} GB are given: take a smaller --model, such as {default}, or a smaller --image-side'
            )
        if fitted != (plan.batch, side):
            plan.batch, plan.side = fitted[0], fitted[1] if fitted[1] != side else plan.side
            report = _check(plan, config, args.device)
    plan.repeats = choose_repeats(cfg, folder.splits['train'].count, plan.batch)
    return plan, report


@command
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    os.environ.setdefault('KINETO_LOG_LEVEL', '99')  # silences torch's profiler
    config = Path(args.config)
    if config.suffix != '.py':
        raise ConfigError(f'{args.config!r}: the name of a config ends in .py')
    if config.exists():
        raise ConfigError(f'{args.config!r} exists: name a new file, or remove it')
    folder = _read_data(args.data, config)
    plan, report = make_plan(args, folder, config)
    config.write_text(plan.write())
    print(f'{config}:\n\n{plan.write()}')
    if report.estimates is not None and report.estimates.memory is not None:
        print(f'A training step needs about {report.estimates.memory / 1e9:.1f} GB.')
    for finding in report.findings:
        if finding.level == 'error':
            print(f'  error in {finding.where}: {finding.found}. {finding.advice}')
    print(f'Next: protuning doctor {config} --data, protuning train {config}')


if __name__ == '__main__':
    main()
