"""What features depend on, and what they do not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.config import Config

from protuning_mm import TunedBackbone
from protuning_mm.engine.feature_cache.identity import describe_network, identify_images, read_settings
from protuning_mm.engine.shortcuts import lay_shortcuts
from tests.families import FAMILIES


def network(tuning: Any = 'linear', family: str = 'mmdet.ResNet', mode: Any = True, **changes: Any) -> Any:
    cfg = FAMILIES[family] | changes
    return describe_network(TunedBackbone(cfg, tuning, allow_random_backbone=True, efficient_frozen=mode))


def test_network() -> None:
    """The added modules are not part of it."""
    plain = network()
    assert plain == network() == network('ladder') == network(dict(type='pro', ratio=0.5))
    others = [
        network(mode='int8'),
        network(strides=(1, 2, 2, 1)),
        network(out_indices=(0, 1)),
        network(style='caffe', depth=50),
        network(family='mmdet.RegNet'),
    ]
    assert all(other != plain for other in others)


@pytest.mark.parametrize('repeats', [1, 3])
def test_settings(repeats: int) -> None:
    """The pipeline inside the wrapper, without what surrounds it."""
    data = dict(type='CustomDataset', pipeline=[dict(type='PackInputs')])
    content = dict(
        model=dict(data_preprocessor=dict(mean=[1])),
        data_preprocessor=dict(mean=[2]),
        train_dataloader=dict(batch_size=4, dataset=data),
        cache_features=True,
        data_repeats=repeats,
    )
    expected = dict(dataset=data, data_preprocessor=dict(mean=[2]), model_data_preprocessor=dict(mean=[1]))
    found = read_settings(lay_shortcuts(Config(content)))
    assert found | dict(dataset=found['dataset']['dataset']) == expected


def test_image_arrays(tmp_path: Path) -> None:
    """Their data infos name no file."""
    from protuning_mm.data.classification import ImageArrays

    (tmp_path / 'classes.json').write_text('["a", "b"]')
    images = np.zeros((2, 4, 4, 3), np.uint8)

    def identity() -> str:
        np.save(tmp_path / 'train_images.npy', images)
        np.save(tmp_path / 'train_labels.npy', np.arange(2))
        return identify_images(ImageArrays(str(tmp_path), pipeline=[]))

    first = identity()
    assert [path.name for path in ImageArrays(str(tmp_path), pipeline=[]).source_files] == [
        'train_images.npy',
        'train_labels.npy',
    ]
    images[1, 3, 3, 2] = 1
    assert identity() != first


def test_images_in_memory(tmp_path: Path) -> None:
    from mmengine.dataset import BaseDataset

    class InMemory(BaseDataset):
        def load_data_list(self) -> list[dict[str, Any]]:
            return [dict(img=np.full((2, 2, 3), i, np.uint8), gt_label=np.int64(i)) for i in self.metainfo['values']]

    def identity(*values: int) -> str:
        return identify_images(InMemory(metainfo=dict(values=values), pipeline=[], serialize_data=False))

    assert identity(1, 2) == identity(1, 2)
    assert len({identity(1, 2), identity(2, 1), identity(1, 3), identity(1, 2, 3)}) == 4
