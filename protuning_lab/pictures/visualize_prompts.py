"""``tools/visualize_prompts.py``: draw what the prompts of a trained model change in the features of an image."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from torch import nn

from protuning_lab.pictures.figures import check_format, save_figure
from protuning_lab.pictures.model_input import map_strides, read_input
from protuning_lab.pictures.prompt_figure import SCALES, draw_prompts
from protuning_lab.pictures.stage_changes import StageMaps, get_tuned_backbone, measure_change, record_changes
from protuning_mm.cli.command import command
from protuning_mm.cli.flags import add_prediction_arguments, at_least, best_device
from protuning_mm.cli.output_names import make_distinct_names
from protuning_mm.cli.predict import find_images
from protuning_mm.engine.config import read_config
from protuning_mm.multitask.hosts import TestPipeline, load_model
from protuning_mm.weights import CheckpointError


@dataclass(frozen=True)
class DrawnImage:
    """The figure of one image.

    Args:
        image (str): The image's path.
        picture (Path): The figure's path.
        stages (list[StageMaps]): The numbers that the figure shows.
    """

    image: str
    picture: Path
    stages: list[StageMaps]


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Draw what the prompts of a trained model do to an image')
    add_prediction_arguments(parser, out='folder for the pictures, one per image')
    parser.add_argument(
        '--scale',
        choices=SCALES,
        default='stage',
        help='colour scale of the prompts: one per stage (default), or one for all stages',
    )
    parser.add_argument(
        '--format', choices=['png', 'svg'], default='png', help='file format of the figures (default: png)'
    )
    parser.add_argument(
        '--dpi', type=at_least(1), default=130, help='pixels per inch (default: 130); a map is 2.5 inches wide'
    )
    return parser.parse_args(argv)


def visualize_prompts(
    config: str | Config,
    checkpoint: str,
    inputs: Sequence[str],
    out: str | Path,
    scale: str = 'stage',
    form: str = 'png',
    dpi: int = 130,
    device: str | None = None,
) -> list[DrawnImage]:
    """Draw one figure per image: the prompt of each stage, and the feature map before and after it.

    Args:
        config (str | Config): A config of an mmdet, mmseg or mmpretrain model.
        checkpoint (str): Its checkpoint, whole or a delta.
        inputs (Sequence[str]): Images and folders of images.
        out (str | Path): Output folder.
        scale (str): Colour scale of the prompts: ``'stage'`` or ``'shared'``. Defaults to ``'stage'``.
        form (str): ``'png'`` or ``'svg'``. Defaults to ``'png'``.
        dpi (int): Pixels per inch. Defaults to 130.
        device (str, optional): Defaults to the GPU if there is one.

    Raises:
        CheckpointError: the checkpoint is missing or damaged, would run code, or does not fit the model.
        DataError: an input does not exist or cannot be read.
        PictureError: the model has no tuning that changes the ends of stages.
    """
    names = make_distinct_names(find_images(inputs))
    if '://' not in checkpoint and not Path(checkpoint).is_file():
        raise CheckpointError(f'checkpoint {checkpoint!r} does not exist')
    cfg = config if isinstance(config, Config) else read_config(config)
    pipeline = TestPipeline(cfg)
    device = device or best_device()
    model, _ = load_model(cfg, checkpoint, device, before_loading=_check_tuning)
    backbone = get_tuned_backbone(model)
    drawn = []
    for image, name in names.items():
        seen = read_input(model, pipeline, image)
        stages = [measure_change(change) for change in record_changes(backbone, seen.tensor)]
        height, width = seen.pixels.shape[:2]
        cells = map_strides(backbone, (height, width), [stage.prompt.shape for stage in stages])
        tuning = ', '.join(each.name for each in backbone.tunings)
        title = f'{Path(image).name}: what {tuning} adds at the end of each stage of {type(backbone.plain).__name__}'
        target = Path(out) / f'{Path(name).stem}.{form}'
        check_format(target)
        save_figure(draw_prompts(seen, stages, cells, title, scale), target, dpi)
        drawn.append(DrawnImage(image, target, stages))
    return drawn


def _check_tuning(built: nn.Module) -> None:
    """Check the tuning before loading weights, which could fail for the same reason with a less clear message."""
    get_tuned_backbone(built)


def format_numbers(drawn: DrawnImage) -> str:
    """Format the numbers of a figure, one row per stage."""
    header = f'{"stage":<12}{"map":>14}{"mean |x|":>12}{"mean |P(x)|":>13}{"mean |x + P(x)|":>17}{"|P(x)| / |x|":>14}'
    lines = [f'{drawn.image}: drawn in {drawn.picture}', header]
    for stage in drawn.stages:
        size = f'{stage.channels}×{stage.prompt.shape[0]}×{stage.prompt.shape[1]}'
        means = stage.before.mean(), stage.prompt.mean(), stage.after.mean()
        lines.append(
            f'{f"{stage.stage + 1}  {stage.tuning}":<12}{size:>14}{means[0]:>12.4g}{means[1]:>13.4g}{means[2]:>17.4g}'
            f'{stage.ratio:>14.4g}'
        )
    return '\n'.join(lines)


@command
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    cfg = read_config(args.config, args.cfg_options)
    for drawn in visualize_prompts(
        cfg, args.checkpoint, args.images, args.out, args.scale, args.format, args.dpi, args.device
    ):
        print(format_numbers(drawn))


if __name__ == '__main__':
    main()
