"""``tools/predict.py``: write and draw predictions on images or folders, with the hosts' inferencers."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
from mmengine.config import Config
from mmengine.fileio import dump

from protuning_mm.cli.command import command
from protuning_mm.cli.flags import add_prediction_arguments, from_0_to_1
from protuning_mm.cli.output_names import link_distinct_names, make_distinct_names
from protuning_mm.data import DataError
from protuning_mm.data.truncated_images import is_truncated
from protuning_mm.engine.config import read_config
from protuning_mm.patches import patch_file_writing, patch_transforms
from protuning_mm.weights.hub import find_checkpoint

IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.ppm', '.tif', '.tiff', '.webp')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Write and draw predictions on images')
    add_prediction_arguments(parser, out='folder for predictions and drawn images')
    help_text = 'lowest score of a box to draw (detectors); defaults to 0.3'
    parser.add_argument('--score-thr', type=from_0_to_1, default=0.3, help=help_text)
    return parser.parse_args(argv)


def find_images(inputs: Sequence[str]) -> list[str]:
    """List images without duplicates.

    Args:
        inputs (Sequence[str]): Paths of images and folders. Of a folder, the images directly in it are listed, sorted.

    Raises:
        DataError: a path does not exist, or a folder contains no image.
    """
    images: dict[Path, str] = {}
    for name in inputs:
        path = Path(name)
        if not path.exists():
            raise DataError(f'{name!r} does not exist')
        found = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGES)
        if not found:
            raise DataError(f'the folder {name!r} contains no image ({", ".join(IMAGES)})')
        for image in found:
            images.setdefault(image.parent.resolve() / image.name, str(image))
    return list(images.values())


def predict(
    cfg: Config, checkpoint: str, inputs: Sequence[str], out: str, device: str, score_thr: float
) -> dict[str, list[str]]:
    """Predict on images, and write drawn images and predictions with the host's inferencer.

    Drawn images are in ``out/vis``, predictions in ``out/preds`` (mmseg: ``out/pred``). Images with the same stem are
    written under the names of :func:`make_distinct_names`.

    Args:
        cfg (Config): The model's config.
        checkpoint (str): Path of a whole checkpoint or delta, or an address that begins with ``hf://``.
        inputs (Sequence[str]): Paths of images and folders.
        out (str): Output folder.
        device (str): Device, such as ``'cuda:0'``.
        score_thr (float): Lowest score of a box to draw.

    Returns:
        dict[str, list[str]]: Paths of the ``predicted`` images, and of the ``undecodable`` ones, which are skipped.

    Raises:
        CheckpointError: the checkpoint is missing, damaged or would run code.
        DataError: an input does not exist.
    """
    images = find_images(inputs)
    checkpoint = str(find_checkpoint(checkpoint))
    undecodable = [image for image in images if cv2.imread(image) is None or is_truncated(image)]
    readable = [image for image in images if image not in undecodable]
    if readable:
        with link_distinct_names(readable) as paths:
            _PREDICTORS[cfg.get('default_scope', 'mmdet')](cfg, checkpoint, paths, out, device, score_thr)
    return dict(predicted=readable, undecodable=undecodable)


def _detect(cfg: Config, checkpoint: str, images: list[str], out: str, device: str, score_thr: float) -> None:
    from mmdet.apis import DetInferencer

    inferencer = DetInferencer(cfg, checkpoint, device=device, show_progress=False)
    inferencer(images, out_dir=out, pred_score_thr=score_thr, no_save_pred=False)


def _segment(cfg: Config, checkpoint: str, images: list[str], out: str, device: str, _: float) -> None:
    from mmseg.apis import MMSegInferencer

    inferencer = MMSegInferencer(cfg, checkpoint, device=device, show_progress=False)
    inferencer(images, out_dir=out)


def _classify(cfg: Config, checkpoint: str, images: list[str], out: str, device: str, _: float) -> None:
    from mmpretrain.apis import ImageClassificationInferencer

    inferencer = ImageClassificationInferencer(cfg, pretrained=checkpoint, device=device)
    Path(out).mkdir(parents=True, exist_ok=True)  # the inferencer makes only the folder in it
    results = inferencer(images, show_dir=str(Path(out) / 'vis'))
    for image, result in zip(images, results):
        dump(result, Path(out) / 'preds' / f'{Path(image).stem}.json')


_PREDICTORS = {'mmdet': _detect, 'mmseg': _segment, 'mmpretrain': _classify}


@command
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    patch_transforms()
    patch_file_writing()
    cfg = read_config(args.config, args.cfg_options)
    results = predict(cfg, args.checkpoint, args.images, args.out, args.device, args.score_thr)
    for image, name in make_distinct_names(results['predicted']).items():
        if name != Path(image).name:
            print(f'{image}: another image has the same name; written as {Path(name).stem}')
    print(f'{len(results["predicted"])} images predicted, written to {args.out}')
    if results['undecodable']:
        listed = '\n  '.join(results['undecodable'])
        raise SystemExit(f'error: these files cannot be decoded as images:\n  {listed}')


if __name__ == '__main__':
    main()
