"""A training set whose samples stand for stored features once these exist."""

from collections.abc import Mapping
from typing import Any

from mmengine.registry import DATASETS

from protuning_mm.data.errors import DataError
from protuning_mm.data.random_transforms import find_random_transforms, generator_states, seed_generators

INDEX = 'cached_index'  # the only key of a sample that stands for stored features


@DATASETS.register_module()
class CachedSamples:
    """A wrapper of a training set; :class:`~protuning_mm.engine.hooks.FeatureCacheHook` switches it.

    As long as ``indices_only`` is False, samples are those of the data set. Then a sample is its index: no image is
    loaded, and the pipeline does not run.

    Args:
        dataset (dict | Dataset): The data set. Its other attributes are also attributes of the wrapper.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, Mapping) else dataset
        self.indices_only = False

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or name == 'dataset':  # not there yet while the wrapper is unpickled
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return {INDEX: index} if self.indices_only else self.dataset[index]


class DrawnSamples:
    """The samples of a data set in fixed draws, one after the other: ``[draw * len(dataset) + index]``.

    Args:
        dataset (Dataset): The data set.
        draws (int, optional): Number of draws, each with random numbers of its own, the same in every run. Defaults to
            None: one, in which no random number may be drawn.
    """

    def __init__(self, dataset: Any, draws: int | None = None) -> None:
        self.dataset = dataset
        self.draws = draws

    def __len__(self) -> int:
        return len(self.dataset) * (self.draws or 1)

    def __getitem__(self, position: int) -> Any:
        """Load a sample.

        Raises:
            DataError: the pipeline draws random numbers, and ``draws`` is None.
        """
        draw, index = divmod(position, len(self.dataset))
        if self.draws is not None:
            with seed_generators(draw, index):
                return self.dataset[index]
        before = generator_states()
        sample = self.dataset[index]
        if generator_states() != before:
            names = find_random_transforms(self.dataset, index)
            what = f'{" and ".join(names)} in its pipeline' if names else 'something in it'
            raise DataError(
                f'cache_features: an image of the training set is another one in every epoch, because {what} draws '
                'random numbers. Remove the random steps of train_dataloader.dataset.pipeline, or store several fixed '
                'draws of each image: cache_features=dict(draws=4), on the command line cache_features.draws=4'
            )
        return sample
