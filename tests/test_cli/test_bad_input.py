"""Common mistakes: the error names what was written, what was found and what would be right."""

import json
import os
import pickle
import random
from pathlib import Path

import pytest
import torch

from protuning_mm.cli import test as test_tool
from protuning_mm.cli import train as train_tool
from tests.mini import write_backbone, write_coco, write_config


def train(config: Path, *flags: str) -> str:
    """Train in this process, and return the expected error."""
    with pytest.raises((SystemExit, ValueError, RuntimeError)) as caught:
        train_tool.main([str(config), '--work-dir', str(config.parent / 'run'), *flags])
    return str(caught.value)


def test_missing_data_root(tmp_path: Path) -> None:
    config = write_config('htc', tmp_path, "\ntrain_dataloader['dataset']['data_root'] = 'no/such'\n")
    message = train(config)
    assert "train_dataloader.dataset.data_root='no/such'" in message
    assert '--cfg-options data_root=' in message


def test_missing_annotation_file(tmp_path: Path) -> None:
    config = write_config('htc', tmp_path)
    (tmp_path / 'coco/annotations/instances_train2017.json').unlink()
    message = train(config)
    assert 'train_dataloader.dataset.ann_file' in message
    assert str(tmp_path / 'coco/annotations/instances_train2017.json') in message


def test_missing_stuff_maps(tmp_path: Path) -> None:
    config = write_config('htc', tmp_path)
    for path in (tmp_path / 'coco/stuffthingmaps/train2017').iterdir():
        path.unlink()
    (tmp_path / 'coco/stuffthingmaps/train2017').rmdir()
    assert 'train_dataloader.dataset.data_prefix.seg' in train(config)


def test_annotations_are_not_json(tmp_path: Path) -> None:
    config = write_config('htc', tmp_path)
    (tmp_path / 'coco/annotations/instances_train2017.json').write_text('{"images": [')
    assert 'is not JSON' in train(config)


def test_classes_that_are_not_in_the_annotations(tmp_path: Path) -> None:
    """mmdet would train nevertheless, without the classes that it does not find by name."""
    config = write_config('htc', tmp_path)
    config.write_text(config.read_text().replace("classes = ('a', 'b', 'c')", "classes = ('a', 'b', 'dog')"))
    message = train(config)
    assert 'dog' in message and 'a, b, c' in message and 'metainfo=dict(classes=' in message


@pytest.mark.parametrize('model', ['cascade', 'upernet'])
def test_num_classes_differ_from_the_data_set(model: str, tmp_path: Path) -> None:
    config = write_config(model, tmp_path)
    config.write_text(config.read_text().replace('num_classes=3', 'num_classes=7'))
    message = train(config)
    head = 'roi_head.bbox_head.0' if model == 'cascade' else 'decode_head'
    assert f'model.{head}.num_classes=7' in message and '3 classes' in message


@pytest.mark.parametrize('wrong', [dict(depth=50), dict(base_channels=16)])
def test_checkpoint_of_another_depth_or_width(wrong: dict, tmp_path: Path) -> None:
    config = write_config('upernet', tmp_path)
    key, value = next(iter(wrong.items()))
    message = train(config, '--cfg-options', f'model.backbone.{key}={value}', *_wider(key))
    assert 'does not fit the frozen backbone' in message and 'layer1.0.conv' in message


def _wider(key: str) -> list[str]:
    scale = 4 if key == 'depth' else 2
    channels = ','.join(str(c * scale) for c in (8, 16, 32, 64))
    return [
        f'model.decode_head.in_channels={channels}',
        f'model.auxiliary_head.in_channels={32 * scale}',
    ]


class _Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_files_that_are_not_checkpoints(tmp_path: Path) -> None:
    config = write_config('upernet', tmp_path)
    weights = tmp_path / 'resnet18v1c.pth'
    whole = weights.read_bytes()
    for content in (whole[: len(whole) // 2], b'', b'<html>404</html>', random.Random(0).randbytes(1000)):
        weights.write_bytes(content)
        message = train(config)
        assert str(weights) in message and 'cannot be read as a checkpoint' in message, content[:20]


def test_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    config = write_config('upernet', tmp_path)
    trap = tmp_path / 'executed'
    weights = tmp_path / 'resnet18v1c.pth'
    for write in (torch.save, lambda evil, path: Path(path).write_bytes(pickle.dumps(evil, 2))):
        write(dict(state_dict=_Evil(trap)), weights)
        assert 'refused: unpickling it would run code' in train(config)
        with pytest.raises(SystemExit, match='would run code'):
            test_tool.main([str(config), str(weights), '--work-dir', str(tmp_path / 'run')])
        assert not trap.exists()


@pytest.mark.parametrize('content', [b'', b'no image at all'])
def test_image_cannot_be_decoded(content: bytes, tmp_path: Path) -> None:
    config = write_config('upernet', tmp_path)
    for image in (tmp_path / 'ade/images/training').iterdir():
        image.write_bytes(content)
    message = train(config)
    assert 'cannot be decoded as an image' in message
    assert str(tmp_path / 'ade/images/training') in message


def test_missing_checkpoint(tmp_path: Path) -> None:
    config = write_config('upernet', tmp_path)
    with pytest.raises(SystemExit, match="'no.pth' does not exist"):
        test_tool.main([str(config), 'no.pth', '--work-dir', str(tmp_path / 'run')])


def test_flags_that_do_not_fit(tmp_path: Path) -> None:
    config = write_config('upernet', tmp_path)
    if not torch.cuda.is_available():
        assert '--amp needs a GPU' in train(config, '--amp')
    assert 'base_batch_size' in train(config, '--auto-scale-lr')
    config = write_config('cascade', tmp_path)
    with pytest.raises(SystemExit, match='must end in .pkl'):
        test_tool.main([str(config), 'x.pth', '--out', 'results.json'])


def test_both_pretrained_and_init_cfg(tmp_path: Path) -> None:
    """mmseg's configs set model.pretrained; an additional init_cfg is an error in mmseg or here."""
    from protuning_mm import ProTunedResNet

    with pytest.raises(ValueError, match='pretrained=.*init_cfg=.*keep one'):
        ProTunedResNet(depth=18, pretrained='a.pth', init_cfg=dict(type='Pretrained', checkpoint='b.pth'))


def test_random_backbone_is_refused(tmp_path: Path) -> None:
    config = write_config('upernet', tmp_path, '\nmodel["pretrained"] = None\n')
    message = train(config)
    assert 'not loaded from a file' in message and 'allow_random_backbone=True' in message


def test_load_from_a_model_with_other_classes(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    """The backbone is loaded strictly; head tensors of another shape are listed and initialized."""
    (tmp_path / 'old').mkdir()
    config = write_config('cascade', tmp_path / 'old')
    train_tool.main([str(config), '--work-dir', str(tmp_path / 'old/run')])
    trained = tmp_path / 'old/run/epoch_1.pth'

    (tmp_path / 'new').mkdir()
    data = write_coco(tmp_path / 'new/coco')
    for split in ('train2017', 'val2017'):  # keep two categories
        path = data / f'annotations/instances_{split}.json'
        content = json.loads(path.read_text())
        content['categories'].pop()
        content['annotations'] = [a for a in content['annotations'] if a['category_id'] < 3]
        path.write_text(json.dumps(content))
    config = write_config('cascade', tmp_path / 'new', data=data)
    text = config.read_text().replace("('a', 'b', 'c')", "('a', 'b')")
    text = text.replace('num_classes=3', 'num_classes=2')
    text = text.replace("init_cfg=dict(type='Pretrained', checkpoint=weights)", 'init_cfg=None')
    config.write_text(text)
    train_tool.main([str(config), '--work-dir', str(tmp_path / 'new/run'), '--cfg-options', f'load_from={trained}'])
    output = capfd.readouterr()
    assert 'keep their initial values' in output.out + output.err
    assert (
        'roi_head.bbox_head.0.fc_cls.weight: (4, 32) in the checkpoint, (3, 32) in the model' in output.out + output.err
    )
    new = torch.load(tmp_path / 'new/run/epoch_1.pth', weights_only=False)['state_dict']
    old = torch.load(trained, weights_only=False)['state_dict']
    frozen = torch.load(write_backbone(tmp_path / 'r.pth'), weights_only=True)
    for name in frozen:
        assert torch.equal(new[f'backbone.{name}'], old[f'backbone.{name}']), name


def test_missing_config() -> None:
    with pytest.raises(SystemExit, match="no config 'configs/det/htc.py'"):
        train_tool.main(['configs/det/htc.py'])
