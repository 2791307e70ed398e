"""ImageNet-A and ImageNet-R: their 200 classes, and heads of 1000 and of 200 classes."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from mmpretrain.registry import DATASETS
from mmpretrain.structures import DataSample

from protuning_mm.data import DataError
from tests.classification_data import write_imagenet_folders

# ImageNet labels of the classes, from the authors' evaluation scripts
PUBLISHED = {
    'a': """
        6 11 13 15 17 22 23 27 30 37 39 42 47 50 57 70 71 76 79 89 90 94 96 97 99 105 107 108 110 113 124 125 130
        132 143 144 150 151 207 234 235 254 277 283 287 291 295 298 301 306 307 308 309 310 311 313 314 315 317 319
        323 324 326 327 330 334 335 336 347 361 363 372 378 386 397 400 401 402 404 407 411 416 417 420 425 428 430
        437 438 445 456 457 461 462 470 472 483 486 488 492 496 514 516 528 530 539 542 543 549 552 557 561 562 569
        572 573 575 579 589 606 607 609 614 626 627 640 641 642 643 658 668 677 682 684 687 701 704 719 736 746 749
        752 758 763 765 768 773 774 776 779 780 786 792 797 802 803 804 813 815 820 823 831 833 835 839 845 847 850
        859 862 870 879 880 888 890 897 900 907 913 924 932 933 934 937 943 945 947 951 954 956 957 959 971 972 980
        981 984 986 987 988
    """,
    'r': """
        1 2 4 6 8 9 11 13 22 23 26 29 31 39 47 63 71 76 79 84 90 94 96 97 99 100 105 107 113 122 125 130 132 144 145
        147 148 150 151 155 160 161 162 163 171 172 178 187 195 199 203 207 208 219 231 232 234 235 242 245 247 250
        251 254 259 260 263 265 267 269 276 277 281 288 289 291 292 293 296 299 301 308 309 310 311 314 315 319 323
        327 330 334 335 337 338 340 341 344 347 353 355 361 362 365 366 367 368 372 388 390 393 397 401 407 413 414
        425 428 430 435 437 441 447 448 457 462 463 469 470 471 472 476 483 487 515 546 555 558 570 579 583 587 593
        594 596 609 613 617 621 629 637 657 658 701 717 724 763 768 774 776 779 780 787 805 812 815 820 824 833 847
        852 866 875 883 889 895 907 928 931 932 933 934 936 937 943 945 947 948 949 951 953 954 957 963 965 967 980
        981 983 988
    """,
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
def test_labels_of_200_classes(which: str, folders: dict[str, Path]) -> None:
    """The folder names give the labels that the authors' scripts select from 1000 scores."""
    indices = [int(i) for i in PUBLISHED[which].split()]
    whole, own = (build(which, folders[which], num_classes=n) for n in (1000, 200))
    assert list(whole.metainfo['subset']) == whole.get_gt_labels().tolist() == indices
    assert own.metainfo['subset'] is None and own.get_gt_labels().tolist() == list(range(200))
    assert len(whole.CLASSES) == 1000 and list(own.CLASSES) == [whole.CLASSES[i] for i in indices]
    assert [Path(own.get_data_info(i)['img_path']).parent.name for i in range(200)] == sorted(wnids(which))


def evaluate(scores: torch.Tensor, labels: list[int], **meta: Any) -> float:
    evaluator = Evaluator(dict(type='protuning_mm.SubsetAccuracy'))
    evaluator.dataset_meta = meta
    evaluator.process([DataSample().set_gt_label(i).set_pred_score(s) for s, i in zip(scores, labels, strict=True)])
    return evaluator.evaluate(len(labels))['accuracy/top1']


def test_predictions_are_restricted_to_contained_classes(folders: dict[str, Path]) -> None:
    init_default_scope('mmpretrain')
    dataset = build('a', folders['a'])
    labels, subset = dataset.get_gt_labels().tolist(), dataset.metainfo['subset']
    scores = torch.zeros(200, 1000)
    scores[:, 0] = 0.9  # tench is not in ImageNet-A
    scores[range(200), labels] = 0.1
    scores[:50, subset[-1]] = 0.2  # a wrong class that is contained
    assert evaluate(scores, labels, subset=subset) == 75.0
    assert evaluate(scores, labels, subset=None) == 0.0
    assert evaluate(scores[:, list(subset)], list(range(200)), subset=None) == 75.0


def test_training_images_of_its_classes(folders: dict[str, Path], tmp_path: Path) -> None:
    """For a head of 200 classes: only ImageNet's training folders of ImageNet-A's classes, in ImageNet-A's order."""
    train = write_imagenet_folders(tmp_path, [*wnids('a'), 'n01440764'])
    dataset = DATASETS.build(
        dict(type='protuning_mm.ImageNetSubset', data_root=str(train), classes_of=str(folders['a']), num_classes=200)
    )
    test = build('a', folders['a'], num_classes=200)
    assert dataset.CLASSES == test.CLASSES and len(dataset) == 200
    names = [[Path(d.get_data_info(i)['img_path']).parent.name for i in range(200)] for d in (dataset, test)]
    assert names[0] == names[1]


def test_folders_that_are_not_imagenet_a(folders: dict[str, Path], tmp_path: Path) -> None:
    few = write_imagenet_folders(tmp_path / 'few', wnids('a')[:3])
    missing = rf'ImageNetA: .* the 200 folders of imagenet_a: 197 are missing \({wnids("a")[3]}, …\)\. With other'
    with pytest.raises(DataError, match=missing):
        build('a', few)
    only_in_r = min(set(wnids('r')) - set(wnids('a')))
    with pytest.raises(DataError, match=rf'are missing .* and \d+ are of other classes \({only_in_r}, …\)'):
        build('a', folders['r'])
    with pytest.raises(DataError, match='num_classes=100, but there are 200 classes'):
        build('a', folders['a'], num_classes=100)
    with pytest.raises(DataError, match="contains 2, and 'dog' is no class of ImageNet"):
        build('r', write_imagenet_folders(tmp_path / 'other', ['dog', 'n01440764']))
    with pytest.raises(DataError, match='no folder'):
        DATASETS.build(
            dict(type='protuning_mm.ImageNetSubset', data_root=str(few), classes_of=str(folders['a']), num_classes=200)
        )
