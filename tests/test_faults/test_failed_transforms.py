"""Images that a transform of the hosts fails on are named, with their size and what would be right."""

import pickle
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import pytest
from PIL import Image

from protuning_mm.cli import train as train_tool
from protuning_mm.data import DataError
from protuning_mm.patches import patch_transforms
from tests.mini import write_ade, write_config


@pytest.fixture(autouse=True)
def named() -> None:
    patch_transforms()


def thin(width: int, height: int) -> dict[str, Any]:
    return dict(img=np.zeros((height, width, 3), np.uint8), img_path='data/thin.jpg', img_shape=(height, width))


def transform(scope: str, kind: str, **settings: Any) -> Any:
    from mmengine.registry import TRANSFORMS

    __import__(f'{scope}.datasets')
    with TRANSFORMS.switch_scope_and_registry(scope) as registry:
        return registry.build(dict(type=kind, **settings))


@pytest.mark.parametrize(('scope', 'kind', 'settings'), [
    ('mmdet', 'Resize', dict(scale=(1333, 800), keep_ratio=True)),
    ('mmseg', 'Resize', dict(scale=(1333, 800), keep_ratio=True)),
    ('mmpretrain', 'Resize', dict(scale=(1333, 800), keep_ratio=True)),
    ('mmdet', 'RandomChoiceResize', dict(scales=[(1333, 800)], keep_ratio=True)),
    ('mmseg', 'RandomResize', dict(scale=(1333, 800), ratio_range=(1.0, 1.0), keep_ratio=True)),
])  # fmt: skip
@pytest.mark.parametrize(('size', 'becomes'), [((20_000, 3), '1333x0'), ((2, 9000), '0x1333')])
def test_too_thin(scope: str, kind: str, settings: dict[str, Any], size: tuple[int, int], becomes: str) -> None:
    said = rf"'data/thin.jpg', {size[0]}x{size[1]} pixels .*too thin for Resize.*\(1333, 800\).*would become {becomes}"
    with pytest.raises(DataError, match=f'{said}.*2666 times'):
        transform(scope, kind, **settings)(thin(*size))


@pytest.mark.parametrize(('width', 'height'), [(2666, 1), (1, 2666), (7998, 3)])
def test_the_thinnest_that_is_told_to_be_right_is_right(width: int, height: int) -> None:
    resized = transform('mmdet', 'Resize', scale=(1333, 800), keep_ratio=True)(thin(width, height))
    assert min(resized['img'].shape[:2]) == 1


def test_other_failures_of_opencv() -> None:
    nothing = dict(thin(4, 4), img=np.zeros((0, 4, 3), np.uint8))
    with pytest.raises(DataError, match=r"'data/thin.jpg', 4x0 pixels.*Resize failed in OpenCV: OpenCV\("):
        transform('mmdet', 'Resize', scale=(8, 8), keep_ratio=False)(nothing)


def test_other_errors_are_left_alone() -> None:
    with pytest.raises(KeyError, match='img'):
        transform('mmdet', 'RandomCrop', crop_size=(4, 4))(dict())


@pytest.mark.parametrize('workers', [pytest.param(0, marks=pytest.mark.slow), 1])
def test_told_plainly_by_the_tool(workers: int, tmp_path: Path) -> None:
    """From a loader's worker as from the main process: the message alone, without a traceback."""
    extra = "\ntrain_pipeline.insert(2, dict(type='Resize', scale=(128, 96), keep_ratio=True))\n"
    extra += f'train_dataloader.update(num_workers={workers}, persistent_workers=False)\n'
    data = write_ade(tmp_path / 'ade', 2)
    for image in (data / 'images/training').iterdir():
        Image.new('RGB', (3000, 2)).save(image)
        labels = Image.new('L', (3000, 2), 1)
        labels.paste(2, (0, 0, 1500, 2))
        labels.save(str(image).replace('images', 'annotations').replace('.jpg', '.png'))
    config = write_config('fcn', tmp_path, extra, data)
    with pytest.raises(SystemExit) as caught:
        train_tool.main([str(config), '--work-dir', str(tmp_path / 'run')])
    said = str(caught.value)
    assert said.startswith(f"error: '{data}/images/training/") and said.endswith('from the annotations.')
    assert '3000x2 pixels' in said and 'would become 128x0' in said and 'Traceback' not in said


def test_failed_transforms_can_still_be_pickled() -> None:
    """Workers that are spawned get them so."""
    step = transform('mmdet', 'Resize', scale=(13, 8), keep_ratio=True)
    assert mmcv.rescale_size((4, 4), pickle.loads(pickle.dumps(step)).scale) == (8, 8)
