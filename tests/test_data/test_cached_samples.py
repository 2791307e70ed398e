"""The wrapper whose samples become indices, and the data set of fixed draws."""

import pickle
import random
from typing import Any

import pytest
from mmengine.dataset import default_collate, pseudo_collate
from mmengine.registry import DATASETS

from protuning_mm.data import DataError
from protuning_mm.data.cached_samples import INDEX, CachedSamples, DrawnSamples


class Numbers:
    """Ten samples; a sample is its index, and what ``draw`` returns."""

    metainfo = dict(classes=('a',))  # noqa: RUF012

    def __init__(self, draws: bool = False) -> None:
        self.draws = draws

    def __len__(self) -> int:
        return 10

    def __getitem__(self, i: int) -> Any:
        return i, random.random() if self.draws else 0.0

    def get_data_info(self, i: int) -> dict[str, int]:
        return dict(i=i)


def test_wrapper() -> None:
    wrapper = CachedSamples(Numbers())
    assert (len(wrapper), wrapper[3], wrapper.metainfo, wrapper.get_data_info(2)) == (
        10,
        (3, 0.0),
        Numbers.metainfo,
        dict(i=2),
    )
    assert not hasattr(wrapper, '__getitems__') and not hasattr(wrapper, 'full_init')
    wrapper.indices_only = True
    copied = pickle.loads(pickle.dumps(wrapper))
    assert copied[3] == {INDEX: 3} and len(copied) == 10
    for collate in (default_collate, pseudo_collate):
        assert [int(i) for i in collate([copied[4], copied[7]])[INDEX]] == [4, 7]


def test_wrapper_in_a_config() -> None:
    DATASETS.register_module(module=Numbers)
    try:
        assert DATASETS.build(dict(type='CachedSamples', dataset=dict(type='Numbers')))[2] == (2, 0.0)
    finally:
        DATASETS.module_dict.pop('Numbers')


def test_fixed_draws() -> None:
    drawn = DrawnSamples(Numbers(draws=True), 3)
    assert len(drawn) == 30
    samples = [drawn[i] for i in range(30)]
    random.seed(1)
    assert [drawn[i] for i in reversed(range(30))] == samples[::-1]
    assert [i for i, _ in samples] == [*range(10)] * 3 and len({number for _, number in samples}) == 30


def test_without_draws_nothing_may_be_random() -> None:
    fixed = DrawnSamples(Numbers())
    assert len(fixed) == 10 and fixed[9] == (9, 0.0)
    with pytest.raises(DataError, match='because something in it draws random numbers'):
        DrawnSamples(Numbers(draws=True))[0]
