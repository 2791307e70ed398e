"""Classes in a data set's config: a single name without its comma is an error in every host library."""

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from protuning_mm.data import DataError, check_data_files
from protuning_mm.data.classes import find_classes
from protuning_mm.doctor.data import check_data
from protuning_mm.doctor.training_setup import TrainingSetup

# scope -> types of data sets
DATASETS: dict[str, tuple[str, ...]] = {
    'mmdet': ('CocoDataset', 'VOCDataset'),
    'mmseg': ('BaseSegDataset',),
    'mmpretrain': ('CustomDataset',),
}
CASES = [(scope, kind, 'metainfo.classes') for scope, kinds in DATASETS.items() for kind in kinds]


def config(scope: str, kind: str, key: str, classes: Any, root: Path) -> Config:
    named = dict(classes=classes) if key == 'classes' else dict(metainfo=dict(classes=classes))
    dataset = dict(type='RepeatDataset', times=2, dataset=dict(type=kind, data_root=str(root), **named))
    return Config(dict(default_scope=scope, train_dataloader=dict(dataset=dataset)))


@pytest.mark.parametrize(('scope', 'kind', 'key'), [*CASES, ('mmpretrain', 'CustomDataset', 'classes')])
def test_one_class_without_its_comma(scope: str, kind: str, key: str, tmp_path: Path) -> None:
    cfg = config(scope, kind, key, ('cat'), tmp_path)
    where = f'train_dataloader.dataset.dataset.{key}'
    with pytest.raises(DataError, match=rf"{where}='cat' is a string(?s:.*)tuple(?s:.*)classes=\('cat',\)"):
        check_data_files(cfg, ['train_dataloader'])
    (found,) = (each for each in check_data(TrainingSetup(cfg)) if each.where == where)
    assert (found.level, found.where) == ('error', where)
    assert "'cat' is a string" in found.found and "('cat',)" in found.advice


@pytest.mark.parametrize(('scope', 'kind', 'key'), CASES)
def test_a_tuple_a_list_and_a_file_of_names_are_accepted(scope: str, kind: str, key: str, tmp_path: Path) -> None:
    names = tmp_path / 'names.txt'
    names.write_text('cat\ndog\n')
    for classes in (('cat', 'dog'), ['cat', 'dog'], str(names)):
        cfg = config(scope, kind, key, classes, tmp_path)
        check_data_files(cfg, ['train_dataloader'])
        found = find_classes(cfg.train_dataloader.dataset.dataset, scope)
        assert list(found) == ['cat', 'dog']
