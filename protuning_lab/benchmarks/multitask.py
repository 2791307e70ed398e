"""``tools/analysis_tools/benchmark_multitask.py``: memory and time of k tasks on one backbone and of k models."""

import argparse
import gc
import json
import mmap
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor

from protuning_lab.measure import MIB, interleaved_times, median_ratio
from protuning_mm.cli.command import command
from protuning_mm.cli.convert_delta import extract_delta
from protuning_mm.cli.flags import add_device, at_least
from protuning_mm.engine.build_model import build_model
from protuning_mm.multitask import MultiTask
from protuning_mm.multitask.hosts import TestPipeline, load_model
from protuning_mm.multitask.joint.runner import Joint
from protuning_mm.multitask.task import Task
from protuning_mm.serving.memory import return_freed_memory
from protuning_mm.weights.atomic import write_atomically

JOINT: dict[str, Joint] = {'auto': 'auto', 'always': True, 'never': False}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Compare k classifiers on one frozen ResNet with k separate models')
    parser.add_argument('--depth', type=at_least(1), default=50, help='depth of the ResNet')
    parser.add_argument('--size', type=at_least(1), default=224, help='height and width of the images')
    parser.add_argument('--tasks', type=at_least(1), nargs='+', default=[1, 2, 4, 8], help='numbers of tasks k')
    parser.add_argument(
        '--prompt-stages', type=at_least(0), nargs='+', default=[0, 1, 2, 3], help='stages with a prompt'
    )
    parser.add_argument('--tuning', help='name of another tuning than prompts')
    parser.add_argument('--rounds', type=at_least(1), default=5, help='number of measurements')
    add_device(parser, 'cpu')
    parser.add_argument('--joint', choices=list(JOINT), default='auto', help='when to run all tasks in one pass')
    parser.add_argument('--json', type=Path, help='file for all figures')
    return parser.parse_args(argv)


def write_tasks(args: argparse.Namespace, folder: Path, number: int) -> tuple[Config, list[Path]]:
    """Write a random base and deltas with random tunings; return a classifier's config and the deltas' paths."""
    base = folder / 'base.pth'
    tuning = dict(tuning=args.tuning) if args.tuning else dict(prompt_stages=args.prompt_stages)
    resnet = dict(type='protuning_mm.ProTunedResNet', depth=args.depth, out_indices=(3,), host='mmpretrain')
    pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
    width = 512 if args.depth < 50 else 2048
    cfg = Config(
        dict(
            default_scope='mmpretrain',
            model=dict(
                type='ImageClassifier',
                backbone=dict(**resnet, **tuning),
                neck=dict(type='GlobalAveragePooling'),
                head=dict(type='LinearClsHead', num_classes=100, in_channels=width),
            ),
            data_preprocessor=dict(num_classes=100, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
            test_dataloader=dict(dataset=dict(type='CustomDataset', data_root='', pipeline=pipeline)),
        )
    )
    __import__('mmpretrain.models')
    deltas: list[Path] = []
    for i in range(number):
        torch.manual_seed(i)
        model: Any = build_model(cfg)
        if base.is_file():
            model.backbone.fill_from(str(base))
        else:
            torch.save(model.backbone.plain_tensors(), base)
            cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=str(base))
        for key, tensor in model.named_parameters():
            if key.startswith(tuple(f'backbone.{child}.' for child in model.backbone.added_children)):
                tensor.data.add_(0.01 * torch.randn_like(tensor))
        whole = folder / 'whole.pth'
        torch.save(dict(state_dict=model.state_dict(), meta={}), whole)
        deltas.append(folder / f'delta_{i}.pth')
        extract_delta(cfg, str(whole), deltas[-1])
    return cfg, deltas


def seconds(call: Callable[[], Any]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def distinct_bytes(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of the distinct storages of some tensors."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def tensor_memory(models: Sequence[Any]) -> float:
    """Return the size of the distinct storages of some models' tensors, in MiB."""
    return distinct_bytes(chain.from_iterable(chain(m.parameters(), m.buffers()) for m in models)) / MIB


def process_memory() -> float:
    """Return the memory of this process in MiB; 0 on other systems than Linux."""
    gc.collect()
    return_freed_memory()  # so that the next allocations count
    statm = Path('/proc/self/statm')
    return int(statm.read_text().split()[1]) * mmap.PAGESIZE / MIB if statm.exists() else 0.0


def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the figures of each number of tasks."""
    most = max(args.tasks)
    noise = np.random.default_rng(0)
    images = [noise.integers(0, 255, (args.size, args.size, 3), dtype=np.uint8) for _ in range(most)]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        cfg, deltas = write_tasks(args, Path(name), most)
        multitask, singles = MultiTask(args.device, joint=JOINT[args.joint]), []
        before, adding = process_memory(), []
        for i, delta in enumerate(deltas):
            adding.append(seconds(partial(multitask.add, f'task {i}', cfg, delta)))
            if i + 1 in args.tasks:
                models = list(multitask.models.values())
                frozen = multitask.task('task 0').backbone.frozen_tensors().values()
                base = distinct_bytes(frozen) / MIB
                own = sum(multitask.task(name).own_bytes for name in multitask.tasks) / MIB
                rows.append(
                    dict(k=i + 1, base=base, deltas=own, held=tensor_memory(models), rss=process_memory() - before)
                )
        swaps = [seconds(lambda: multitask.swap('task 0', cfg, deltas[0])) for _ in range(args.rounds)]
        before = process_memory()
        for i, delta in enumerate(deltas):
            model, meta = load_model(cfg, str(delta), args.device, lambda model: None)
            singles.append(Task(f'task {i}', model, meta, TestPipeline(cfg), str(delta)))
            for row in rows:
                if row['k'] == i + 1:
                    row |= dict(
                        separate=tensor_memory([single.model for single in singles]),
                        separate_rss=process_memory() - before,
                    )
        for row in rows:
            row |= dict(add=statistics.median(adding[1 : row['k']] or adding), swap=statistics.median(swaps))
            row['seconds'] = throughput(multitask, singles[: row['k']], images, args.rounds)
    return rows


def throughput(multitask: MultiTask, singles: Sequence[Task], images: Sequence[Any], rounds: int) -> dict[str, Any]:
    """Time requests to MultiTask and to separate models that run one after the other, alternately."""

    def separate(of: Callable[[int], Any]) -> None:
        for i, single in enumerate(singles):
            one = single.prepare(of(i))
            single.run(one.inputs, [one.sample], 'predict')

    def together(of: Callable[[int], Any]) -> None:
        multitask.predict({single.name: of(i) for i, single in enumerate(singles)})

    runs = {
        'one image, together': lambda: dict(all=seconds(lambda: together(lambda i: images[0]))),
        'one image, separate': lambda: dict(all=seconds(lambda: separate(lambda i: images[0]))),
        'different images, together': lambda: dict(all=seconds(lambda: together(lambda i: images[i]))),
        'different images, separate': lambda: dict(all=seconds(lambda: separate(lambda i: images[i]))),
    }
    return {name: parts['all'] for name, parts in interleaved_times(runs, rounds).items()}


def format_table(rows: Sequence[dict[str, Any]]) -> str:
    """Format memory and times, with their ratios to separate models, as Markdown."""
    lines = [
        '| tasks | base + deltas, MiB | held | process grew by | separate models hold | process grew by |',
        '|---:|---:|---:|---:|---:|---:|',
    ]
    for row in rows:
        sizes = (row['base'] + row['deltas'], row['held'], row['rss'], row['separate'], row['separate_rss'])
        lines.append(f'| {row["k"]} | ' + ' | '.join(f'{size:.0f}' for size in sizes) + ' |')
    lines += [
        '',
        '| tasks | one image: ms | separate: ms | times faster | different images: ms | separate: ms | times faster |',
    ]
    lines.append('|---:|' + '---:|' * 6)
    for row in rows:
        cells = []
        for kind in ('one image', 'different images'):
            ours, other = row['seconds'][f'{kind}, together'], row['seconds'][f'{kind}, separate']
            cells += [f'{1000 * statistics.median(ours):.0f}', f'{1000 * statistics.median(other):.0f}']
            cells.append(f'{median_ratio(other, ours):.2f}')
        lines.append(f'| {row["k"]} | ' + ' | '.join(cells) + ' |')
    last = rows[-1]
    return '\n'.join(
        [*lines, '', f'Adding a task takes {last["add"]:.2f} s, swapping one {last["swap"]:.2f} s (medians).']
    )


@command
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    rows = measure(args)
    tuning = args.tuning or f'prompts after stages {args.prompt_stages}'
    setting = f'{args.size}x{args.size}, ResNet-{args.depth}, {tuning}, joint={args.joint}'
    print(f'{setting}; {args.device}, {torch.get_num_threads()} threads, torch {torch.__version__}\n')
    print(format_table(rows))
    if args.json:
        write_atomically(json.dumps(dict(setting=setting, rows=rows), indent=1).encode() + b'\n', args.json)


if __name__ == '__main__':
    main()
