"""Long tails, few shots and held-out splits: published counts, and which images each subset contains."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmpretrain.registry import DATASETS

from protuning_mm.data import DataError
from tests.classification_data import LabelsAlone, without_checksums, write_cifar

# counts from LDAM's published code; totals from papers on long tails
CIFAR10_LT = {
    10: [5000, 3871, 2997, 2320, 1796, 1391, 1077, 834, 645, 500],
    50: [5000, 3237, 2096, 1357, 878, 568, 368, 238, 154, 100],
    100: [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50],
}
CIFAR100_LT = {10: (19573, 50), 50: (12608, 10), 100: (10847, 5)}
CIFAR100_LT_100 = [500, 477, 455, 434, 415, 396, 378, 361, 344, 328, 314, 299, 286, 273, 260, 248, 237, 226, 216, 206]


def balanced(classes: int, each: int) -> dict[str, Any]:
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(classes), each))
    return dict(type='LabelsAlone', labels=labels.tolist(), classes=classes)


def build(kind: str, dataset: Any, **kwargs: Any) -> Any:
    """Build from mmpretrain's registry, as a loader in a config does."""
    return DATASETS.build(dict(type=f'protuning_mm.{kind}', dataset=dataset, **kwargs))


def images(part: Any) -> list[int]:
    return [part[i]['image'] for i in range(len(part))]


@pytest.fixture(scope='module')
def cifar10() -> LabelsAlone:
    return DATASETS.build(balanced(10, 5000))


@pytest.mark.parametrize('ratio', list(CIFAR10_LT))
def test_counts_of_cifar10_lt(ratio: int, cifar10: LabelsAlone) -> None:
    part = build('LongTailed', cifar10, imbalance_ratio=ratio)
    assert part.num_per_class == CIFAR10_LT[ratio]
    assert len(part) == {10: 20431, 50: 13996, 100: 12406}[ratio]
    assert np.bincount(part.get_gt_labels()).tolist() == CIFAR10_LT[ratio]
    assert part.metainfo['classes'] == part.CLASSES == cifar10.CLASSES
    assert len(cifar10) == 50000, 'the whole data set is left as it was'


@pytest.fixture(scope='module')
def cifar100() -> LabelsAlone:
    return DATASETS.build(balanced(100, 500))


@pytest.mark.parametrize('ratio', list(CIFAR100_LT))
def test_counts_of_cifar100_lt(ratio: int, cifar100: LabelsAlone) -> None:
    part = build('LongTailed', cifar100, imbalance_ratio=ratio)
    counts = part.num_per_class
    assert (sum(counts), counts[-1]) == CIFAR100_LT[ratio]
    assert counts == sorted(counts, reverse=True) and len(counts) == 100
    if ratio == 100:
        assert counts[:20] == CIFAR100_LT_100


def test_which_images_a_long_tail_has() -> None:
    """A seed always selects the same images, another seed others; ratio 100 is a subset of ratio 50."""
    whole = balanced(4, 200)
    part, again, other, milder = (
        build('LongTailed', whole, imbalance_ratio=ratio, seed=seed)
        for ratio, seed in ((100, 0), (100, 0), (100, 1), (50, 0))
    )
    assert [whole['labels'][i] for i in images(part)] == part.get_gt_labels().tolist()
    assert images(part) == images(again) != images(other)
    assert set(images(part)) < set(images(milder)) and len(images(other)) == len(images(part))
    assert [part.get_cat_ids(i) for i in range(3)] == [[label] for label in part.get_gt_labels()[:3]]


def test_long_tail_of_an_unbalanced_set() -> None:
    """As many images as every class allows; the profile still holds."""
    labels = [0] * 90 + [1] * 20 + [2] * 40
    part = build('LongTailed', dict(type='LabelsAlone', labels=labels, classes=3), imbalance_ratio=9)
    assert part.num_per_class == [60, 20, 6]  # 20 of the middle class are 60 / 9**0.5
    few = build('LongTailed', dict(type='LabelsAlone', labels=labels, classes=3), imbalance_ratio=9, max_per_class=18)
    assert few.num_per_class == [18, 6, 2]


@pytest.mark.parametrize(
    ('kwargs', 'said'),
    [
        (dict(imbalance_ratio=0.01), 'imbalance_ratio=0.01 is below 1'),
        (dict(imbalance_ratio=100), "imbalance_ratio=100 and 20 images of the first class leave 0 for 'class 2'"),
        (dict(imbalance_ratio=2, max_per_class=30), "leave 30 for 'class 0', which has 20"),
    ],
)
def test_invalid_long_tail(kwargs: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        build('LongTailed', balanced(3, 20), **kwargs)


def test_max_per_class_0_does_not_mean_all_images() -> None:
    with pytest.raises(DataError, match='0 images of the first class leave 0'):
        build('LongTailed', balanced(3, 10), imbalance_ratio=1, max_per_class=0)


@pytest.mark.parametrize('kind', ['LongTailed', 'FewShot', 'HeldOut'])
def test_a_subset_of_a_corrupted_test_set_is_refused(kind: str) -> None:
    corrupted = dict(type='protuning_mm.Corrupted', dataset=balanced(3, 20), corruptions=['fog'])
    settings = dict(imbalance_ratio=1) if kind == 'LongTailed' else {}
    with pytest.raises(DataError, match='would mix its corruptions. Put the subset inside'):
        build(kind, corrupted, **settings)


def test_few_shots() -> None:
    whole = balanced(5, 20)
    four, sixteen = (build('FewShot', whole, shots=shots, seed=3) for shots in (4, 16))
    assert four.num_per_class == [4] * 5 and sixteen.num_per_class == [16] * 5
    assert set(images(four)) < set(images(sixteen))
    with pytest.raises(DataError, match="shots=21, but 'class 0' has 20 images"):
        build('FewShot', whole, shots=21)


def test_held_out_and_train_are_disjoint_and_complete() -> None:
    labels = [0] * 100 + [1] * 17 + [2] * 2 + [3]
    whole = dict(type='LabelsAlone', labels=labels, classes=4)
    train, held_out = (build('HeldOut', whole, part=part, fraction=0.1, seed=5) for part in ('train', 'held_out'))
    assert sorted(images(train) + images(held_out)) == list(range(len(labels)))
    assert images(build('HeldOut', whole, part='all', fraction=0.1, seed=5)) == list(range(len(labels)))
    assert held_out.num_per_class == [10, 2, 1, 0]  # a class keeps one image for training, whatever the fraction
    other = build('HeldOut', whole, part='held_out', fraction=0.1, seed=6)
    assert images(other) != images(held_out)
    for wrong, said in ((dict(part='val'), "part='val'"), (dict(fraction=1.0), 'fraction=1.0')):
        with pytest.raises(DataError, match=said):
            build('HeldOut', whole, **wrong)


def test_nested_subsets_and_an_image_that_cannot_be_loaded() -> None:
    """A long tail of the training part; a damaged image is replaced by one of the same subset."""
    held_out = dict(type='protuning_mm.HeldOut', dataset=balanced(3, 100), fraction=0.2)
    tail = build('LongTailed', held_out, imbalance_ratio=20)
    assert tail.num_per_class == [80, 17, 4]
    train = images(DATASETS.build(held_out))
    assert set(images(tail)) < set(train)

    def breaks(results: dict[str, Any]) -> dict[str, Any] | None:
        return results if results['image'] % 2 else None

    whole = DATASETS.build(balanced(3, 100) | dict(pipeline=[breaks]))
    part = build('FewShot', whole, shots=10)
    kept = {part.get_data_info(i)['image'] for i in range(len(part))}
    assert {part[i]['image'] for i in range(len(part))} <= kept


def test_on_cifar_from_its_files(tmp_path: Path) -> None:
    """Every image of the subset is an image of its class in the files, compared by pixels."""
    without_checksums()
    root = write_cifar(tmp_path, train=20)
    whole = dict(type='CIFAR10', data_root=str(root), split='train', download=False)
    part = build('LongTailed', whole, imbalance_ratio=4)
    assert part.num_per_class == [20, 17, 14, 12, 10, 9, 7, 6, 5, 5]
    plain = DATASETS.build(whole)
    bytes_of = {plain[i]['img'].tobytes(): plain[i]['gt_label'] for i in range(len(plain))}
    assert all(bytes_of[part[i]['img'].tobytes()] == part[i]['gt_label'] for i in range(len(part)))
