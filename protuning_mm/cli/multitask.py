"""``tools/multitask.py``: draw the predictions of several tasks on an image into one picture."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2

from protuning_mm.cli.command import command
from protuning_mm.cli.flags import add_device, from_0_to_1
from protuning_mm.cli.output_names import make_distinct_names
from protuning_mm.cli.predict import find_images
from protuning_mm.data import DataError, patch_transforms
from protuning_mm.multitask.drawing import draw_tasks
from protuning_mm.multitask.errors import MultiTaskError
from protuning_mm.multitask.front import MultiTask
from protuning_mm.weights.atomic import write_atomically


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Predict with several tasks on one frozen backbone, and draw one picture per image'
    )
    parser.add_argument(
        '--task',
        action='append',
        required=True,
        metavar='NAME=CONFIG,CHECKPOINT',
        help='name of a task, its config, and its whole checkpoint or delta; repeat the flag for each task',
    )
    parser.add_argument('--image', nargs='+', required=True, help='images or folders of images')
    parser.add_argument('--out', default='multitask', help="folder for the pictures; defaults to 'multitask'")
    add_device(parser)
    help_text = 'lowest score of a box to draw (detectors); defaults to 0.3'
    parser.add_argument('--score-thr', type=from_0_to_1, default=0.3, help=help_text)
    parser.add_argument('--several-bases', action='store_true', help='allow tasks with different frozen backbones')
    return parser.parse_args(argv)


def split_task(written: str) -> tuple[str, str, str]:
    """Split ``name=config,checkpoint``.

    Raises:
        MultiTaskError: the text has another form.
    """
    name, equals, rest = written.partition('=')
    config, comma, checkpoint = rest.partition(',')
    if not (name and equals and config and comma and checkpoint):
        raise MultiTaskError(f'--task {written}: must be NAME=CONFIG,CHECKPOINT')
    return name, config, checkpoint


@command
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    patch_transforms()
    images = find_images(args.image)
    multitask = MultiTask(args.device, args.several_bases)
    for written in args.task:
        multitask.add(*split_task(written))
    out = Path(args.out)
    tasks = {name: multitask.task(name) for name in multitask.tasks}
    for path, file in make_distinct_names(images).items():
        image = cv2.imread(path)
        if image is None:
            raise DataError(f'{path!r} cannot be decoded as an image')
        results = {name: samples[0] for name, samples in multitask.predict(dict.fromkeys(tasks, path)).items()}
        target = out / f'{Path(file).stem}.png'
        write_atomically(cv2.imencode('.png', draw_tasks(image, results, tasks, args.score_thr))[1].tobytes(), target)
        print(f'{path}: {len(tasks)} tasks drawn into {target}')


if __name__ == '__main__':
    main()
