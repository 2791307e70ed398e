"""ImageNet-A and ImageNet-R: their maps of 200 classes, and a head of 1000 against one of 200."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from mmpretrain.registry import DATASETS
from mmpretrain.structures import DataSample

from protuning_mm.datasets import DataError
from tests.classification_data import write_imagenet_folders

# as the authors' evaluation scripts list them: the first, the last, and their sum
PUBLISHED = {
    'a': ([6, 11, 13, 15, 17, 22, 23, 27, 30, 37, 39, 42, 47, 50, 57], [971, 972, 980, 981, 984, 986, 987, 988]),
    'r': ([1, 2, 4, 6, 8, 9, 11, 13, 22, 23, 26, 29, 31, 39, 47, 63], [957, 963, 965, 967, 980, 981, 983, 988]),
}


def wnids(which: str) -> list[str]:
    return (files('timm.data') / f'_info/imagenet_{which}_synsets.txt').read_text().split()


@pytest.fixture(scope='module')
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp('imagenet')
    return {which: write_imagenet_folders(root / which, wnids(which)) for which in PUBLISHED}


def build(which: str, root: Path, **kwargs: Any) -> Any:
    return DATASETS.build(
        dict(type=f'protuning_mm.ImageNet{which.upper()}', data_root=str(root), serialize_data=False, **kwargs)
    )


@pytest.mark.parametrize('which', list(PUBLISHED))
def test_maps_of_200_classes(which: str, folders: dict[str, Path]) -> None:
    """From the folders' names; timm's own list of indices, and the published lists, say the same."""
    indices = [int(i) for i in (files('timm.data') / f'_info/imagenet_{which}_indices.txt').read_text().split()]
    whole, own = (build(which, folders[which], num_classes=n) for n in (1000, 200))
    assert list(whole.metainfo['subset']) == whole.get_gt_labels().tolist() == sorted(indices)
    assert (indices[: len(PUBLISHED[which][0])], indices[-8:]) == PUBLISHED[which]
    assert own.metainfo['subset'] is None and own.get_gt_labels().tolist() == list(range(200))
    assert len(whole.CLASSES) == 1000 and list(own.CLASSES) == [whole.CLASSES[i] for i in indices]
    assert [Path(own.get_data_info(i)['img_path']).parent.name for i in range(200)] == sorted(wnids(which))


def evaluate(scores: torch.Tensor, labels: list[int], **meta: Any) -> float:
    evaluator = Evaluator(dict(type='protuning_mm.SubsetAccuracy'))
    evaluator.dataset_meta = meta
    evaluator.process([DataSample().set_gt_label(i).set_pred_score(s) for s, i in zip(scores, labels, strict=True)])
    return evaluator.evaluate(len(labels))['accuracy/top1']


def test_predictions_are_restricted_to_the_classes_that_are_there(folders: dict[str, Path]) -> None:
    init_default_scope('mmpretrain')
    dataset = build('a', folders['a'])
    labels, subset = dataset.get_gt_labels().tolist(), dataset.metainfo['subset']
    scores = torch.zeros(200, 1000)
    scores[:, 0] = 0.9  # tench is not in ImageNet-A
    scores[range(200), labels] = 0.1
    scores[:50, subset[-1]] = 0.2  # a wrong one that is there
    assert evaluate(scores, labels, subset=subset) == 75.0
    assert evaluate(scores, labels, subset=None) == 0.0
    assert evaluate(scores[:, list(subset)], list(range(200)), subset=None) == 75.0


def test_training_images_of_its_classes(folders: dict[str, Path], tmp_path: Path) -> None:
    """For a head of 200: ImageNet's training folders, those of ImageNet-A alone, in the order of ImageNet-A."""
    train = write_imagenet_folders(tmp_path, [*wnids('a'), 'n01440764'])
    dataset = DATASETS.build(
        dict(type='protuning_mm.ImageNetSubset', data_root=str(train), classes_of=str(folders['a']), num_classes=200)
    )
    test = build('a', folders['a'], num_classes=200)
    assert dataset.CLASSES == test.CLASSES and len(dataset) == 200
    names = [[Path(d.get_data_info(i)['img_path']).parent.name for i in range(200)] for d in (dataset, test)]
    assert names[0] == names[1]


def test_what_is_no_imagenet_a(folders: dict[str, Path], tmp_path: Path) -> None:
    few = write_imagenet_folders(tmp_path / 'few', wnids('a')[:3])
    with pytest.raises(DataError, match='has 3 folders of classes, expected 200: among fewer classes'):
        build('a', few)
    with pytest.raises(DataError, match='num_classes=100, but there are 200 classes'):
        build('a', folders['a'], num_classes=100)
    with pytest.raises(DataError, match="2 are there, and 'dog' is no class of ImageNet"):
        build('r', write_imagenet_folders(tmp_path / 'other', ['dog', 'n01440764']))
    with pytest.raises(DataError, match='no folder'):
        DATASETS.build(
            dict(type='protuning_mm.ImageNetSubset', data_root=str(few), classes_of=str(folders['a']), num_classes=200)
        )
