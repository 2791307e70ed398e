"""``tools/dataset_converters/make_cifar_c.py``: make files like those of CIFAR-10-C from the clean test set."""

import argparse
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.utils import track_parallel_progress, track_progress
from numpy.typing import NDArray

from protuning_lab.cache_images import write_array
from protuning_mm.cli.command import command
from protuning_mm.cli.flags import at_least
from protuning_mm.data import DataError
from protuning_mm.data.corruptions import CORRUPTIONS, GENERATED_MARK, SEVERITIES, corrupt_image
from protuning_mm.weights.atomic import write_atomically


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Corrupt CIFAR's clean test set; write files like those of CIFAR-10-C")
    parser.add_argument('clean', type=Path, help='folder with cifar-10-batches-py or cifar-100-python')
    parser.add_argument('out', type=Path, help='output folder; our configs expect data/cifar10/CIFAR-10-C')
    parser.add_argument('--corruptions', nargs='+', default=CORRUPTIONS, choices=CORRUPTIONS, metavar='NAME')
    parser.add_argument(
        '--seed',
        type=at_least(0),
        default=0,
        help='random seed; CIFAR10C with the same seed makes the same images on the fly',
    )
    parser.add_argument('--jobs', type=at_least(1), default=1, help='number of processes (default: 1)')
    return parser.parse_args(argv)


def make_cifar_c(clean: Path, out: Path, corruptions: Sequence[str], seed: int, jobs: int) -> None:
    """Write one file per corruption, ``labels.npy``, and a file that marks them as generated.

    Args:
        clean (Path): Folder of the clean CIFAR-10 or CIFAR-100.
        out (Path): Output folder. Existing corruption files are kept.
        corruptions (Sequence[str]): Names of the corruptions.
        seed (int): Seed of the random numbers.
        jobs (int): Number of processes.

    Raises:
        DataError: ``clean`` does not contain CIFAR, or ``out`` contains files that this tool did not make from these
            images with this seed.
    """
    name, images, labels = _clean_test_set(clean)
    mark = dict(clean=name, imagecorruptions=version('imagecorruptions-imaug'), strengths="ImageNet-C's", seed=seed)
    if (out / GENERATED_MARK).is_file():
        found = json.loads((out / GENERATED_MARK).read_text())
        if found != mark:
            raise DataError(
                f'{out / GENERATED_MARK} records {found}, but the new files would be {mark}: choose another folder'
            )
    elif out.is_dir() and any(out.glob('*.npy')):
        raise DataError(
            f'{str(out)!r} contains files that this tool did not make, perhaps the published ones: choose another '
            'folder'
        )
    write_atomically(json.dumps(mark).encode(), out / GENERATED_MARK)
    write_array(np.tile(labels, len(SEVERITIES)).astype(np.uint8), out / 'labels.npy')
    for corruption in corruptions:
        path = out / f'{corruption}.npy'
        if path.is_file():
            continue
        print(path)
        tasks = [(image, corruption, s, (seed, i)) for s in SEVERITIES for i, image in enumerate(images)]
        made = track_parallel_progress(_corrupt, tasks, jobs) if jobs > 1 else track_progress(_corrupt, tasks)
        write_array(np.stack(made), path)


def _corrupt(task: tuple[Any, ...]) -> NDArray[np.uint8]:
    return corrupt_image(*task)


def _clean_test_set(root: Path) -> tuple[str, list[NDArray[np.uint8]], NDArray[np.int64]]:
    from mmpretrain.datasets import CIFAR10, CIFAR100

    kinds = [kind for kind in (CIFAR10, CIFAR100) if (root / kind.base_folder).is_dir()]
    if len(kinds) != 1:
        raise DataError(f'{str(root)!r} must contain either {CIFAR10.base_folder} or {CIFAR100.base_folder}')
    dataset = kinds[0](data_root=str(root), split='test', download=False)
    images = [dataset.get_data_info(i)['img'] for i in range(len(dataset))]
    return kinds[0].__name__, images, dataset.get_gt_labels()


@command
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    make_cifar_c(args.clean, args.out, args.corruptions, args.seed, args.jobs)


if __name__ == '__main__':
    main()
