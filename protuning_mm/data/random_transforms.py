"""Random numbers in the pipelines of data sets: whether any are drawn, by which transform, and with which seed."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from protuning_mm.data.label_counts import unwrap_data_sets

State = tuple[Any, ...]


def generator_states() -> State:
    """Return the states of the random generators of Python, numpy and torch; two are equal if nothing was drawn."""
    name, keys, *rest = np.random.get_state()
    return random.getstate(), (name, np.asarray(keys).tobytes(), *rest), torch.get_rng_state().numpy().tobytes()


@contextmanager
def seed_generators(*seed: int) -> Iterator[None]:
    """Seed the random generators of Python, numpy and torch inside this context; their states are restored after it."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    number = int.from_bytes(hashlib.sha256(repr(seed).encode()).digest()[:4], 'little')
    random.seed(number)
    np.random.seed(number)
    torch.default_generator.manual_seed(number)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


class _Watched:
    """A transform that notes whether a call draws random numbers."""

    def __init__(self, transform: Any) -> None:
        self.transform = transform
        self.draws = False

    def __call__(self, results: Any) -> Any:
        before = generator_states()
        results = self.transform(results)
        self.draws = self.draws or generator_states() != before
        return results


def find_random_transforms(dataset: Any, index: int) -> list[str]:
    """Load a sample of a data set, and return the types of the transforms that draw random numbers, in order.

    Args:
        dataset: A built data set of a host library, or a wrapper.
        index (int): Index of the sample.
    """
    lists = [each.pipeline.transforms for each in unwrap_data_sets(dataset) if hasattr(each, 'pipeline')]
    own = [list(transforms) for transforms in lists]
    watched = [[_Watched(transform) for transform in transforms] for transforms in own]
    try:
        for transforms, watching in zip(lists, watched):
            transforms[:] = watching
        dataset[index]
    finally:
        for transforms, before in zip(lists, own):
            transforms[:] = before
    return [type(each.transform).__name__ for part in watched for each in part if each.draws]
