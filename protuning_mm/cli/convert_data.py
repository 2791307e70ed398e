"""``protuning data convert``: convert a data set of another tool to one that configs can name."""

import argparse
from collections.abc import Sequence

from protuning_mm.cli.command import command
from protuning_mm.cli.flags import from_0_to_1
from protuning_mm.conversion import FORMATS, convert_data


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Convert a data set of YOLO, Pascal VOC, COCO, LabelMe, CSV files, label maps or class folders. '
        'Its images stay where they are; the new folder holds annotations, and is what data=… of a config names'
    )
    parser.add_argument('source', help="the data set's folder, or its file of annotations")
    parser.add_argument('out', help='a new folder, or one that an earlier conversion wrote, which is replaced')
    parser.add_argument('--format', choices=FORMATS, help='format of the data; found from the files by default')
    parser.add_argument(
        '--classes',
        metavar='A,B,…',
        help='classes in the order of their labels; all others are left out. Defaults to those of the data',
    )
    parser.add_argument(
        '--val',
        type=from_0_to_1,
        default=0.2,
        metavar='SHARE',
        help='share of the training images to take for validation if the data have no split for it; defaults to 0.2',
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of this draw; defaults to 0')
    return parser.parse_args(argv)


@command
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    classes = [name.strip() for name in (args.classes or '').split(',') if name.strip()]
    folder, findings = convert_data(
        args.source, args.out, kind=args.format, classes=classes, val=args.val, seed=args.seed
    )
    names = ', '.join(folder.classes[:12]) + (', …' if len(folder.classes) > 12 else '')
    print(f'{folder.path}: {folder.task}, {len(folder.classes)} classes: {names}')
    print('  ' + ', '.join(f'{name} {split.count} images' for name, split in folder.splits.items()))
    lines = list(findings)
    if lines:
        print('Odd in the data, and what was done:')
        print('\n'.join(f'  {line}' for line in lines))
    print(f'Use it: data={str(folder.path)!r} in a config, or protuning train CONFIG --data-folder {folder.path}')


if __name__ == '__main__':
    main()
