"""tools/predict.py: pictures and predictions of images and folders; damaged images are skipped."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from protuning_mm.cli import predict as tool
from tests.mini import write_backbone, write_classifier, write_config
from tests.test_entry_points import save_checkpoint


@pytest.mark.parametrize('model', ['htc', 'upernet'])
def test_folder_and_undecodable_image(model: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config = write_config(model, tmp_path)
    checkpoint = save_checkpoint(config)
    folder = tmp_path / ('coco/val2017' if model == 'htc' else 'ade/images/validation')
    (folder / 'broken.jpg').write_bytes(b'nothing')
    whole = next(folder.glob('0.jpg')).read_bytes()
    (folder / 'cut short.jpg').write_bytes(whole[: len(whole) * 2 // 3])
    out = tmp_path / 'out'
    with pytest.raises(SystemExit, match='(?s)broken.jpg.*cut short.jpg'):
        tool.main([str(config), str(checkpoint), str(folder), '--out', str(out), '--device', 'cpu'])
    assert '4 images predicted' in capsys.readouterr().out
    assert len(list((out / 'vis').iterdir())) == 4
    preds = out / ('preds' if model == 'htc' else 'pred')
    assert len(list(preds.iterdir())) == 4


def test_classifier_into_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    base = write_backbone(tmp_path / 'base.pth', 'mmpretrain', stem_channels=8)
    config = write_classifier(tmp_path / 'classifier.py', base)
    cv2.imwrite(str(tmp_path / 'a.jpg'), np.zeros((64, 64, 3), np.uint8))
    out = tmp_path / 'new' / 'out'
    arguments = [str(config), str(save_checkpoint(config)), str(tmp_path / 'a.jpg'), '--out', str(out)]
    tool.main([*arguments, '--device', 'cpu'])
    assert (out / 'vis/a.png').is_file()
    result = json.loads((out / 'preds/a.json').read_text())
    assert sum(result['pred_scores']) == pytest.approx(1, abs=1e-5)
    assert result['pred_scores'][result['pred_label']] == result['pred_score']


def test_missing_inputs(tmp_path: Path) -> None:
    from protuning_mm.data import DataError

    with pytest.raises(DataError, match='no-such.jpg'):
        tool.find_images([str(tmp_path / 'no-such.jpg')])
    with pytest.raises(DataError, match='contains no image'):
        tool.find_images([str(tmp_path)])
