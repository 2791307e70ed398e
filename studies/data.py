#!/usr/bin/env python
"""Write the targets as folders of classes: studies/data.py [--out data/studies --seed 0]."""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from PIL import Image

from studies.pictures import SOURCES, TARGETS, draw, draw_digit, samples_of
from studies.pixels import SPLITS, Pixels

# Images per class. A study trains on fewer by a wrapper. source_val contains new renderings of the source task.
COUNTS = {'train': 100, 'val': 30, 'test': 80, 'source': 300, 'source_val': 20}
TWICE = ('val', 'test')  # these splits show each of their handwritten digits twice; train shows none twice
META = 'meta.json'


def make_data(out: str | Path = 'data/studies', seed: int = 0) -> dict[str, Any]:
    """Write ``out/<task>/<split>/<class>/<number>.png`` and, for each task, the origin of all pixels in ``meta.json``.

    A task that already has a ``meta.json`` is kept.

    Args:
        out (str | Path): Output folder. Defaults to ``'data/studies'``.
        seed (int): The same seed writes the same bytes. Defaults to 0.

    Returns:
        dict: Task -> content of its ``meta.json``.

    Raises:
        ValueError: existing data were made with another seed.
    """
    return {task: _make_task(Path(out) / task, task, seed) for task in TARGETS}


def _make_task(folder: Path, task: str, seed: int) -> dict[str, Any]:
    if (folder / META).is_file():
        meta: dict[str, Any] = json.loads((folder / META).read_text())
        if meta['seed'] != seed:
            raise ValueError(f'{str(folder)!r} holds data of seed {meta["seed"]}, not {seed}: remove it first')
        return meta
    partial = folder.with_name(f'{folder.name}.partial')  # so that a killed run does not look complete
    shutil.rmtree(partial, ignore_errors=True)
    origins: dict[str, list[dict[str, Any]]] = {}
    for split in COUNTS:
        origins[split] = []
        for label, name in enumerate(classes_of(task, split)):
            place = partial / split / name
            place.mkdir(parents=True)
            rng = np.random.default_rng([seed, list(TARGETS).index(task), list(COUNTS).index(split), label])
            for number, (picture, origin) in enumerate(_pictures(rng, task, split, name)):
                file = place / f'{number:04d}.png'
                Image.fromarray((picture * 255 + 0.5).astype(np.uint8)).save(file)
                origins[split].append({'file': str(file.relative_to(partial)), **origin})
    counts = {split: len(files) for split, files in origins.items()}
    meta = {'classes': list(TARGETS[task]), 'seed': seed, 'counts': counts, 'origins': origins}
    (partial / META).write_text(json.dumps(meta) + '\n')
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return meta


def classes_of(task: str, split: str) -> tuple[str, ...]:
    """Return the classes of a split. A source network is trained on more classes than a target has."""
    return TARGETS[task] if split in SPLITS else SOURCES[task]


def _pictures(rng: np.random.Generator, task: str, split: str, name: str) -> Iterator[tuple[Pixels, dict[str, Any]]]:
    if task == 'digits' and split in SPLITS:
        samples = samples_of(int(name), split)
        for sample in samples * 2 if split in TWICE else samples[: COUNTS[split]]:
            yield draw_digit(rng, sample, split)
    else:
        for _ in range(COUNTS[split]):
            yield draw(rng, task, name, split if split in SPLITS else 'source')


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description='Write digits on photographs and patches of textures as class folders')
    parser.add_argument('--out', default='data/studies', help='folder to write into')
    parser.add_argument('--seed', type=int, default=0, help='the same seed writes the same bytes')
    args = parser.parse_args(argv)
    start = time.perf_counter()
    try:
        made = make_data(args.out, args.seed)
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(f'error: {error}') from None
    for task, meta in made.items():
        counted = ', '.join(f'{split} {count}' for split, count in meta['counts'].items())
        print(f'{args.out}/{task}: {len(meta["classes"])} classes, {counted}')
    print(f'{time.perf_counter() - start:.1f} s')


if __name__ == '__main__':
    main()
