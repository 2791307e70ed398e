"""``tools/analysis_tools/plot_long_tail.py``: plot accuracy by class, from the most frequent class to the rarest."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from protuning_lab.pictures.figures import PictureError, check_format, save_figure
from protuning_lab.pictures.long_tail import (
    compute_class_accuracy,
    compute_group_means,
    count_training_images,
    format_table,
    read_counts,
)
from protuning_lab.pictures.long_tail_figure import draw_long_tail
from protuning_lab.pictures.predictions import read_labels
from protuning_mm.cli.command import command
from protuning_mm.cli.flags import add_cfg_options, at_least
from protuning_mm.data.metrics.shot_groups import FEW, GROUPS, MANY
from protuning_mm.engine.config import read_config
from protuning_mm.weights.atomic import write_atomically


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Plot accuracy by class, from the most frequent class to the rarest',
        epilog='example: plot_long_tail.py pro=pro.pkl linear=linear.pkl --config cifar100_lt.py --out tail.png; the '
        '.pkl files come from tools/test.py CONFIG CHECKPOINT --out FILE.pkl',
    )
    parser.add_argument(
        'predictions', nargs='+', metavar='NAME=FILE.pkl', help='predictions that tools/test.py --out wrote'
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('--config', help="count the images of this config's training data set")
    source.add_argument('--counts', help='read a CSV file with the columns class and images, one row per label')
    parser.add_argument('--out', required=True, help='output file, .png or .svg')
    parser.add_argument('--table', help='CSV file to write the numbers to')
    parser.add_argument(
        '--many', type=at_least(0), default=MANY, help=f'classes with more images are many-shot (default: {MANY})'
    )
    parser.add_argument(
        '--few', type=at_least(0), default=FEW, help=f'classes with fewer images are few-shot (default: {FEW})'
    )
    add_cfg_options(parser, 'override settings of --config')
    return parser.parse_args(argv)


def split_names(written: Sequence[str]) -> dict[str, str]:
    """Parse ``NAME=FILE.pkl``; without a name, the file's name is used.

    Returns:
        dict[str, str]: Name -> file.

    Raises:
        PictureError: two files have the same name.
    """
    found: dict[str, str] = {}
    for text in written:
        name, equals, path = text.partition('=')
        name, path = (name, path) if equals else (Path(text).stem, text)
        if name in found:
            raise PictureError(f'{found[name]} and {path} are both named {name!r}: write NAME={path}')
        found[name] = path
    return found


@command
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    check_format(args.out)
    files = split_names(args.predictions)
    labels = {name: read_labels(path) for name, path in files.items()}
    if args.config is not None:
        classes = count_training_images(read_config(args.config, args.cfg_options))
    else:
        classes = read_counts(args.counts)
    groups = classes.groups(args.many, args.few)
    runs = {name: compute_class_accuracy(*each, len(classes.names)) for name, each in labels.items()}
    save_figure(draw_long_tail(classes, runs, groups), args.out)
    if args.table is not None:
        write_atomically(format_table(classes, groups, runs).encode(), args.table)
    counted = ', '.join(f'{groups.count(group)} {group}' for group in GROUPS)
    print(f'{len(classes.names)} classes ({counted}), {classes.images.sum()} training images: plotted in {args.out}')
    for name, accuracy in runs.items():
        means = compute_group_means(accuracy, groups)
        print(f'{name}: ' + ', '.join(f'{group} {100 * mean:.2f} %' for group, mean in means.items()))


if __name__ == '__main__':
    main()
