"""The confusion matrix and the worst images of a test."""

import csv
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from protuning_lab.pictures.figures import PictureError
from protuning_lab.pictures.plot_errors import count_confusions, main, mean_iou
from tests.mini import CLASSES, write_config
from tests.test_engine.test_use_data import folders


def read_matrix(folder: Path) -> list[list[int]]:
    rows = list(csv.reader((folder / 'confusion_matrix.csv').open()))
    assert rows[0][1:] == [row[0] for row in rows[1:]] == list(CLASSES)
    return [[int(cell) for cell in row[1:]] for row in rows[1:]]


def write_predictions(tmp_path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Predict class a everywhere, and the truth in the first image; ADE20K's maps and mmseg's files begin with 1."""
    (tmp_path / 'predicted').mkdir()
    found = []
    for i, path in enumerate(sorted((tmp_path / 'ade/annotations/validation').glob('*.png'))):
        truth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        predicted = np.where(truth == 0, 1, truth) if i == 0 else np.ones_like(truth)
        cv2.imwrite(str(tmp_path / 'predicted' / path.name), predicted)
        found.append((truth, predicted))
    return found


def test_segmentation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config('fcn', tmp_path)
    pairs = write_predictions(tmp_path)
    expected = [[sum(int(((t == i) & (p == j)).sum()) for t, p in pairs) for j in (1, 2, 3)] for i in (1, 2, 3)]
    main([str(config), str(tmp_path / 'predicted'), '--out', str(tmp_path / 'out'), '--worst', '2'])
    assert read_matrix(tmp_path / 'out') == expected and expected[1][0] > 0
    for name in ('confusion_matrix.png', 'worst.png'):
        assert cv2.imread(str(tmp_path / 'out' / name)) is not None
    said = capsys.readouterr().out.splitlines()
    scores = [float(line.split()[0]) for line in said if line.endswith('.jpg')]
    assert len(scores) == 2 and scores == sorted(scores)
    assert said[-1].startswith('4 images; confusion_matrix.csv, confusion_matrix.png and worst.png in')

    (tmp_path / 'predicted/2.png').unlink()
    with pytest.raises(SystemExit, match='2.png is missing or no image: give the folder'):
        main([str(config), str(tmp_path / 'predicted'), '--out', str(tmp_path / 'again')])
    assert not (tmp_path / 'again').exists()


def test_classification(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / 'mine.py'
    config.write_text(f"_base_ = 'mmpretrain::resnet/resnet18_8xb32_in1k.py'\ndata = {str(folders(tmp_path))!r}\n")
    predicted = [0, 1, 1, 1, 2, 0]  # of a, a, b, b, c, c
    samples = [
        dict(gt_label=torch.tensor([i // 2]), pred_label=torch.tensor([label])) for i, label in enumerate(predicted)
    ]
    (tmp_path / 'found.pkl').write_bytes(pickle.dumps(samples))
    main([str(config), str(tmp_path / 'found.pkl'), '--out', str(tmp_path / 'out')])
    assert read_matrix(tmp_path / 'out') == [[1, 1, 0], [0, 2, 0], [1, 0, 1]]
    said = capsys.readouterr().out
    assert 'val/a/1.jpg' in said and 'val/c/1.jpg' in said and 'val/b/' not in said

    (tmp_path / 'found.pkl').write_bytes(pickle.dumps(samples[:5]))
    with pytest.raises(SystemExit, match='has 5 predictions, but the test set of the config 6 images'):
        main([str(config), str(tmp_path / 'found.pkl'), '--out', str(tmp_path / 'out')])


def test_detectors_have_tools_of_mmdet(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="of mmdet. For detectors, mmdet's own tools do this"):
        main(['mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py', 'found.pkl', '--out', str(tmp_path / 'out')])


def test_mean_iou() -> None:
    truth, predicted = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    confusion = count_confusions(truth, predicted, 4)
    assert confusion.tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [0] * 4, [0] * 4]
    assert mean_iou(confusion) == pytest.approx((1 / 2 + 2 / 3) / 2)
    with pytest.raises(PictureError, match='has the label 7, but the data set has 4 classes'):
        count_confusions(np.array([7]), np.array([0]), 4)
