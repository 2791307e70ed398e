#!/usr/bin/env python
"""Draw predictions beside the truth: studies/predictions.py bccd|camvid [--work-dir DIR --data-root DIR].

The models are the deltas that the study's runs of seed 0 left in its work dir.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import VISUALIZERS
from numpy.typing import NDArray

from protuning_lab.study import read_study
from protuning_lab.study.grid import list_groups
from studies.evaluate import build_tester
from studies.published import prepare
from studies.results import EvidenceError, read_results

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = {'linear': 'linear probe', 'pro': 'Pro-Tuning', 'full': 'full fine-tuning'}
# labels of the study's further axes, and the visualizer's type and settings
STUDIES: dict[str, tuple[dict[str, str], dict[str, Any], dict[str, Any]]] = {
    'bccd': ({}, dict(type='mmdet.DetLocalVisualizer'), dict(pred_score_thr=0.5)),
    'camvid': ({'head': 'fcn'}, dict(type='mmseg.SegLocalVisualizer', alpha=0.6), dict(with_labels=False)),
}
IMAGES = 4
_BAR, _GAP = 26, 6  # height of a title, distance between panels

Picture = NDArray[np.uint8]


def find_delta(study: str, labels: Mapping[str, Any], work_dir: Path) -> Path:
    """Return the delta of seed 0 at the chosen learning rate.

    Raises:
        EvidenceError: the work dir does not contain it.
    """
    grid = read_study(ROOT / f'studies/grids/{study}.py')
    results = read_results(study, ROOT / f'docs/evidence/{study}.csv', grid.table.rows, grid.table.metric or '')
    rate, _ = results.chosen(dict(labels))
    (group,) = (group for group in list_groups(grid) if all(group[axis] == labels[axis] for axis in grid.axes))
    found = work_dir / f'cells/{group.name}/lr={rate:g},seed=0/delta.pth'
    if not found.is_file():
        raise EvidenceError(f'{work_dir} has no delta of {group.name} at learning rate {rate:g}: run the study first')
    return found


def draw_columns(study: str, work_dir: Path) -> list[list[Picture]]:
    """Draw the truth and the predictions of each tuning for evenly spaced test images.

    Returns:
        list: The columns, each with a picture per image, (H, W, 3), RGB.
    """
    labels, visualizer_cfg, settings = STUDIES[study]
    columns: list[list[Picture]] = []
    for tuning in COLUMNS:
        chosen = dict(tuning=tuning, **labels)
        with tempfile.TemporaryDirectory() as folder:
            runner = build_tester(study, chosen, find_delta(study, chosen, work_dir), folder)
            runner.load_or_resume()
            dataset = runner.build_dataloader(runner.cfg.test_dataloader).dataset
            visualizer: Any = VISUALIZERS.build(dict(visualizer_cfg, name=f'{study} {tuning}'))
            visualizer.dataset_meta = dataset.metainfo
            indices = [len(dataset) * i // IMAGES for i in range(IMAGES)]
            samples = [_predict(runner.model, dataset[i]) for i in indices]

        def draw(sample: Any, truth: bool, visualizer: Any = visualizer) -> Picture:
            image = cv2.cvtColor(cv2.imread(sample.img_path), cv2.COLOR_BGR2RGB)
            visualizer.add_datasample('', image, sample, draw_gt=truth, draw_pred=not truth, **settings)
            picture: Picture = visualizer.get_image()
            return picture

        if not columns:
            columns.append([draw(sample, True) for sample in samples])
        columns.append([draw(sample, False) for sample in samples])
    return columns


@torch.no_grad()
def _predict(model: Any, item: Any) -> Any:
    model.eval()
    return model.test_step(pseudo_collate([item]))[0].to('cpu')


def join(columns: Sequence[Sequence[Picture]], titles: Sequence[str], width: int = 320) -> Picture:
    """Put the columns side by side, with a title above each; RGB."""
    height = round(columns[0][0].shape[0] * width / columns[0][0].shape[1])
    rows = len(columns[0])
    page = np.full((_BAR + rows * (height + _GAP), len(columns) * (width + _GAP) - _GAP, 3), 255, np.uint8)
    for i, (column, title) in enumerate(zip(columns, titles, strict=True)):
        x = i * (width + _GAP)
        cv2.putText(page, title, (x, _BAR - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
        for j, picture in enumerate(column):
            y = _BAR + j * (height + _GAP)
            page[y : y + height, x : x + width] = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return page


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description='Draw the predictions of a study beside the truth')
    parser.add_argument('study', choices=sorted(STUDIES))
    parser.add_argument('--work-dir', type=Path, metavar='DIR', help='work dir of the study')
    parser.add_argument('--out', type=Path, metavar='FILE', help='picture (default: docs/figures/<study>.jpg)')
    parser.add_argument(
        '--data-root', type=Path, default=Path('data'), metavar='DIR', help='folder of the published data sets'
    )
    args = parser.parse_args(argv)
    for sources in prepare([args.study], args.data_root).values():
        raise SystemExit(f'error: data are missing: {sources}')
    try:
        columns = draw_columns(args.study, args.work_dir or Path(read_study(grid_path(args.study)).work_dir))
    except EvidenceError as error:
        raise SystemExit(f'error: {error}') from None
    out = args.out or ROOT / f'docs/figures/{args.study}.jpg'
    page = join(columns, ['truth', *COLUMNS.values()])
    cv2.imwrite(str(out), cv2.cvtColor(page, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    print(out)


def grid_path(study: str) -> Path:
    """Return the file of a study."""
    return ROOT / f'studies/grids/{study}.py'


if __name__ == '__main__':
    main()
