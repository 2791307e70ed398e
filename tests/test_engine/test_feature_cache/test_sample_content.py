"""Data samples of each host, through JSON and bytes."""

from typing import Any

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData, PixelData
from torch import Tensor

from protuning_mm.data import DataError
from protuning_mm.engine.feature_cache.sample_content import SampleReader, SampleWriter, element_classes


def samples() -> dict[str, Any]:
    from mmdet.structures import DetDataSample
    from mmpretrain.structures import DataSample, MultiTaskDataSample
    from mmseg.structures import SegDataSample

    meta = dict(img_path='a/ü "b".jpg', img_shape=(4, 6), scale_factor=(0.1, 1 / 3), flip=False, idx=3, none=None)
    plain = DataSample(metainfo=meta)
    plain.set_gt_label(2).set_gt_score(torch.tensor([0.0, 0.5, 0.5]))
    segmented = SegDataSample(
        metainfo=meta | dict(size=torch.Size((4, 6)), scale=np.float32(0.1), factors=np.array([1.5, 2.5]))
    )
    segmented.gt_sem_seg = PixelData(data=torch.arange(24, dtype=torch.uint8).reshape(1, 4, 6))
    detected = DetDataSample(metainfo=meta | dict(homography={'m': [1, [2.5]]}))
    detected.gt_instances = InstanceData(bboxes=torch.rand(2, 4), labels=torch.tensor([1, 0]))
    detected.ignored_instances = InstanceData(bboxes=torch.empty(0, 4), labels=torch.empty(0, dtype=torch.int64))
    tasks = MultiTaskDataSample()
    tasks.set_field(plain.clone(), 'colour')
    return dict(plain=plain, segmented=segmented, detected=detected, tasks=tasks)


def test_round_trip() -> None:
    written, given = bytearray(), samples()
    writer = SampleWriter(written.extend)
    lines = {name: writer.encode(sample) for name, sample in given.items()}
    reader = SampleReader(bytes(written), element_classes(list(given.values())))
    for name, sample in given.items():
        found = reader.decode(lines[name])
        assert type(found) is type(sample) and found is not reader.decode(lines[name])
        assert_same(found, sample)
    assert set(given['detected'].keys()) == {'gt_instances', 'ignored_instances'}


def assert_same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if hasattr(one, 'all_items'):
        assert set(one.metainfo_keys()) == set(other.metainfo_keys())
        one, other = dict(one.all_items()), dict(other.all_items())
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, Tensor):
        assert one.dtype == other.dtype and torch.equal(one, other)
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype and np.array_equal(one, other)
    else:
        assert one == other


def test_other_content_is_named() -> None:
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    sample = DetDataSample()
    sample.gt_instances = InstanceData(masks=BitmapMasks([], 4, 4))
    with pytest.raises(DataError, match='hold DetDataSample.gt_instances.masks, a BitmapMasks, which cannot be stored'):
        SampleWriter(bytearray().extend).encode(sample)
