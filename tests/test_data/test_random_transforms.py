"""Random numbers in pipelines: noticed, named and seeded."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, Compose, ConcatDataset, RepeatDataset

from protuning_mm.data.random_transforms import find_random_transforms, generator_states, seed_generators


class Step:
    def __init__(self, draw: Callable[[], Any]) -> None:
        self.draw = draw

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        return results | dict(drawn=self.draw())


class RandomStep(Step):
    pass


class Two(BaseDataset):
    def load_data_list(self) -> list[dict[str, Any]]:
        return [dict(label=i) for i in range(2)]


DRAWS: dict[str, Callable[[], Any]] = dict(
    python=random.random,
    numpy=np.random.rand,
    torch=lambda: torch.rand(1).item(),
    shuffle=lambda: random.shuffle([1, 2]),
)


@pytest.mark.parametrize('kind', DRAWS)
@pytest.mark.parametrize('wrap', [lambda x: x, lambda x: RepeatDataset(x, 2), lambda x: ConcatDataset([x, x])])
def test_the_transforms_are_named(kind: str, wrap: Callable[[Any], Any]) -> None:
    steps = [Step(lambda: 1), RandomStep(DRAWS[kind]), Step(lambda: 2), Step(random.random)]
    inner = Two(pipeline=[])
    inner.pipeline = Compose([])
    inner.pipeline.transforms[:] = steps
    assert find_random_transforms(wrap(inner), 1) == ['RandomStep', 'Step']
    assert inner.pipeline.transforms == steps
    inner.pipeline.transforms[1:] = [Step(lambda: 2)]
    assert find_random_transforms(wrap(inner), 1) == []


@pytest.mark.parametrize('kind', DRAWS)
def test_states_change_with_every_draw(kind: str) -> None:
    before = generator_states()
    assert generator_states() == before
    DRAWS[kind]()
    assert generator_states() != before


def test_seeded_numbers_depend_on_the_seed_alone() -> None:
    def draw(*seed: int) -> list[float]:
        with seed_generators(*seed):
            return [random.random(), float(np.random.rand()), torch.rand(1).item()]

    before = generator_states()
    one = draw(0, 1)
    assert generator_states() == before
    torch.manual_seed(5)
    assert draw(0, 1) == one
    others = [draw(1, 0), draw(0, 2), draw(1, 1)]
    assert len({number for numbers in (one, *others) for number in numbers}) == 12
