"""protuning init: a short config for a folder of data."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import timm
import torch
from mmengine.config import Config

from protuning_mm.cli.init_config import main, parse_args
from protuning_mm.cli.init_plan import find_base_batch, find_least_batch, fit_memory, fitting_batch
from protuning_mm.cli.predict import main as predict
from protuning_mm.cli.train import main as train
from protuning_mm.engine.config import read_config

MODEL = 'protuning_mm::det/faster_rcnn_efficientnet-lite0_protune_bccd.py'


def write_yolo(root: Path, images: int = 8) -> Path:
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        for kind in ('images', 'labels'):
            (root / kind / split).mkdir(parents=True)
        for i in range(images if split == 'train' else 2):
            cv2.imwrite(str(root / f'images/{split}/{i}.jpg'), rng.integers(0, 255, (96, 128, 3), np.uint8))
            (root / f'labels/{split}/{i}.txt').write_text('0 0.3 0.3 0.3 0.3\n1 0.7 0.7 0.4 0.4\n')
    (root / 'data.yaml').write_text('train: images/train\nval: images/val\nnames: [cat, dog]\n')
    return root


@pytest.mark.parametrize('model', ['faster-rcnn', pytest.param('rtmdet-dinov3', marks=pytest.mark.slow)])
def test_from_a_yolo_folder_to_pictures_in_three_commands(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """DINOv3's weights are random here: they cannot be fetched in a test."""
    monkeypatch.chdir(tmp_path)
    write_yolo(tmp_path / 'photos')
    flags = ['--image-side', '128', '--memory', '4', '--device', 'cpu']
    if model == 'rtmdet-dinov3':
        network = timm.create_model('vit_small_patch16_dinov3', num_classes=0)
        torch.save(network.state_dict(), tmp_path / 'dinov3.pth')
        flags += ['--weights', 'dinov3.pth']
    main(['photos', 'mine.py', '--model', model, *flags])
    said = capsys.readouterr().out
    assert 'photos is converted to mine_data: detection, 2 classes' in said and 'error' not in said
    text = (tmp_path / 'mine.py').read_text()
    assert len(text.splitlines()) <= 10 and "data = 'mine_data'" in text
    cfg = read_config('mine.py')
    head = cfg.model.bbox_head if model == 'rtmdet-dinov3' else cfg.model.roi_head.bbox_head
    assert head.num_classes == 2 and cfg.train_dataloader.batch_size == 1
    assert not (tmp_path / '.mine_trial.py').exists()

    options = [
        'data_repeats=1',
        'train_cfg.max_epochs=1',
        'train_cfg.dynamic_intervals=None',
        'val_dataloader.num_workers=1',
    ]
    if model == 'rtmdet-dinov3':  # random weights may find nothing, and then there is no best checkpoint
        options.append('model.test_cfg.score_thr=0.0')
    train(['mine.py', '--cfg-options', *options])
    best = next((tmp_path / 'work_dirs/mine').glob('best_coco_bbox_mAP_epoch_1.pth'))
    predict(['mine.py', str(best), 'photos/images/val', '--out', 'pictures'])
    assert sorted(path.name for path in (tmp_path / 'pictures/vis').iterdir()) == ['0.jpg', '1.jpg']


def test_host_config_gets_a_tuning_and_the_answers_of_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_yolo(tmp_path / 'photos', images=40)
    asked = []

    def answer(question: str) -> str:
        asked.append(question.partition(' ')[0])
        return {'Model': 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py', 'Memory': '0.4'}.get(asked[-1], '')

    monkeypatch.setattr('builtins.input', answer)
    monkeypatch.setattr(sys.stdin, 'isatty', lambda: True)
    main(['photos', 'mine.py', '--device', 'cpu'])
    assert asked == ['Model', 'Tuning', 'Memory']
    content = Config.fromfile('mine.py')
    assert content.tune == 'pro' and content.train_dataloader.batch_size == 1
    assert content.auto_scale_lr == dict(enable=True, base_batch_size=16)
    assert content.data_repeats == 5  # 12 epochs × 40 steps × 5 are the first multiple above 2000
    assert content.image_side < 1333
    found = read_config('mine.py')
    assert found.model.backbone.type == 'protuning_mm.TunedBackbone' and found.model.bbox_head.num_classes == 2


MB = 10**6


@pytest.mark.parametrize(
    ('budget', 'keep', 'expected'),
    [
        (1000, (False, False), (8, 640)),
        (420, (False, False), (2, 640)),  # 100 + 2 × 100
        (200, (False, False), (1, 640)),
        (150, (False, False), (1, 448)),  # 100 + 100 × (448 / 640)² = 149
        (150, (True, False), None),
        (300, (False, True), (8, 320)),  # 100 + 8 × 100 × (320 / 640)²
        (101, (False, False), None),
    ],
)
def test_fit_memory(budget: int, keep: tuple[bool, bool], expected: tuple[int, int] | None) -> None:
    assert fit_memory(100 * MB, 100 * MB, budget * MB, 8, 640, *keep) == expected


def test_least_batch() -> None:
    """A batch of one would give the pooled features of UPerNet's head one value per channel."""
    assert fitting_batch(8, 10) == 1 and fitting_batch(8, 10, 2) == 2 and fitting_batch(8, 10**6, 2) == 8
    assert fit_memory(100, 100, 250, 8, 640, False, False, 2) == (2, 544)  # 100 + 2 × 100 × (544 / 640)² = 244.5
    upernet = read_config('protuning_mm::seg/upernet_efficientnet-lite0_protune_camvid.py')
    assert find_least_batch(upernet) == 2 and find_least_batch(Config(dict(default_scope='mmdet'))) == 1


def test_base_batch() -> None:
    """A name of OpenMMLab's counts more than auto_scale_lr, which RTMDet's configs inherit from another schedule."""
    cfg = Config(dict(auto_scale_lr=dict(base_batch_size=16)))
    assert find_base_batch('mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py', cfg) == 256
    assert find_base_batch('my_config.py', cfg) == 16 and find_base_batch('my_config.py', Config(dict())) is None


def test_what_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_yolo(tmp_path / 'photos')
    (tmp_path / 'there.py').write_text('a = 1')
    for words, message in (
        (['photos', 'there.py'], "'there.py' exists: name a new file"),
        (['photos', 'mine.yaml'], "'mine.yaml': the name of a config ends in .py"),
        (['nowhere', 'mine.py'], "data='nowhere': there is no such folder"),
        (['photos', 'mine.py', '--model', 'fcn'], '--model fcn: the models for detection are faster-rcnn, rtmdet'),
        (['photos', 'mine.py', '--memory', 'a lot'], "memory 'a lot': give a number of GB, such as 8"),
        (['photos', 'mine.py', '--memory', '-8'], "memory '-8': give a number of GB"),
        (['photos', 'mine.py', '--memory', '0.1 GB'], 'and 0.1 GB are given: take a smaller --model'),
    ):
        with pytest.raises(SystemExit, match=message):
            main([*words, '--device', 'cpu'])
    assert (tmp_path / 'there.py').read_text() == 'a = 1' and not (tmp_path / 'mine.py').exists()
    assert parse_args(['photos', 'mine.py']).model is None
