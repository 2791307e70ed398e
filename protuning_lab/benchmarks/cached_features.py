"""``tools/analysis_tools/benchmark_cache.py``: epochs on images and on cached features, in turn in one run."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from protuning_lab.benchmarks.cached_runs import CLASSES, TUNINGS, measure
from protuning_lab.hardware import get_processor_name
from protuning_lab.measure import median_ratio
from protuning_mm.cli.command import command
from protuning_mm.cli.flags import at_least
from protuning_mm.weights.atomic import write_atomically


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Time epochs of EfficientNet-Lite0 with ImageNet weights on images and on cached features, in turn'
    )
    parser.add_argument('--tunings', nargs='+', choices=list(TUNINGS), default=list(TUNINGS), help='default: all')
    parser.add_argument('--images', type=at_least(CLASSES), default=256, help='JPEG files of photographs; default: 256')
    parser.add_argument('--size', type=at_least(1), default=224, help='height and width; default: 224')
    parser.add_argument('--batch', type=at_least(1), default=32, help='images a step; default: 32')
    parser.add_argument('--workers', type=at_least(0), default=0, help='processes that load images; default: 0')
    parser.add_argument('--rounds', type=at_least(1), default=3, help='epochs of each kind; default: 3')
    parser.add_argument('--json', type=Path, help='write everything that was measured here')
    return parser.parse_args(argv)


def format_table(results: dict[str, dict[str, Any]]) -> str:
    """Format the medians as Markdown."""
    lines = ['| tuning | kB an image | storing, s | epoch on images, s | on features, s | times faster |']
    lines.append('|---|---:|---:|---:|---:|---:|')
    for name, row in results.items():
        images, features = row['seconds']['images'], row['seconds']['features']
        cells = [f'{row["bytes"] / 1e3:,.0f}', f'{row["seconds"]["preparing"][0]:.1f}', f'{median(images):.2f}']
        lines.append(
            f'| {name} | {" | ".join(cells)} | {median(features):.2f} | {median_ratio(images, features):.1f} |'
        )
    return '\n'.join(lines)


@command
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    results = measure(args)
    setting = (
        f'EfficientNet-Lite0, {args.images} images of {args.size}x{args.size}, batches of {args.batch}, '
        f'{args.workers} workers, {torch.get_num_threads()} threads, torch {torch.__version__}, {get_processor_name()}'
    )
    print(f'{setting}\n\n{format_table(results)}')
    if args.json:
        write_atomically(json.dumps(dict(setting=setting, results=results), indent=1).encode() + b'\n', args.json)


if __name__ == '__main__':
    main()
