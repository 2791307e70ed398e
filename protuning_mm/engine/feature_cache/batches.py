"""The batches of a training set, loaded and computed as training does."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader

from protuning_mm.backbones import tuned_backbones
from protuning_mm.backbones.frozen_features import FrozenPart
from protuning_mm.data import DataError
from protuning_mm.data.cached_samples import DrawnSamples
from protuning_mm.data.random_transforms import generator_states
from protuning_mm.engine.errors import ConfigError
from protuning_mm.engine.resume_limits import sampler_of
from protuning_mm.engine.unwrap import unwrap


class Batch(NamedTuple):
    """A batch that the data preprocessor has made.

    Args:
        inputs (Tensor): (N, 3, H, W), the images.
        samples (list): The data samples.
    """

    inputs: Tensor
    samples: list[Any]


class TrainingBatches:
    """Loads the samples of a training set in order, in batches of the training's size.

    The size matters because convolutions may round differently for another one. The last batch is therefore filled up
    with the first samples.

    Args:
        runner (Runner): A runner that is about to train.
        dataset (Dataset): The training set.
        draws (int, optional): Number of fixed draws; see :class:`~protuning_mm.data.cached_samples.DrawnSamples`.

    Raises:
        ConfigError: the model does not have exactly one tuned backbone, or the batch size is not known.
    """

    def __init__(self, runner: Runner, dataset: Any, draws: int | None) -> None:
        self.model: Any = unwrap(runner.model)
        found = tuned_backbones(self.model)
        if len(found) != 1:
            raise ConfigError(
                f'cache_features: the model has {len(found)} tuned backbones ({", ".join(found) or "none"}), but '
                'features can be stored for exactly one'
            )
        self.backbone = next(iter(found.values()))
        self.samples = DrawnSamples(dataset, draws)
        self.loader: Any = runner.train_dataloader
        self._optim: Any = runner.optim_wrapper
        size = getattr(self.loader.batch_sampler, 'batch_size', None) or self.loader.batch_size
        if not isinstance(size, int):
            raise ConfigError('cache_features: the batch size of train_dataloader is not known')
        sampler = sampler_of(self.loader)
        self._endless = 'Infinite' in type(sampler).__name__
        self.size = size if self._endless else min(size, len(sampler))
        self._shape: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def computation(self) -> dict[str, Any]:
        """What the values of features depend on besides images, network and weights."""
        device = next(self.model.parameters()).device.type
        precision = type(self._optim).__name__, str(getattr(self._optim, 'cast_dtype', None))
        return dict(batch_size=self.size, draws=self.samples.draws, device=device, precision=precision)

    @property
    def last_size(self) -> int:
        """Size of the last batch of an epoch."""
        sampler = sampler_of(self.loader)
        if self._endless or getattr(self.loader.batch_sampler, 'drop_last', False):
            return self.size
        return len(sampler) % self.size or self.size

    def first(self) -> Batch:
        """Load the first batch in this process."""
        return self._preprocess(self.loader.collate_fn([self.samples[i] for i in range(self.size)]))

    def __iter__(self) -> Iterator[tuple[Batch, int]]:
        """Yield all batches, each with the number of samples that are not repeated ones."""
        number = len(self)
        starts = range(0, number, self.size)
        positions = [[i % number for i in range(start, start + self.size)] for start in starts]
        loader: Any = DataLoader(
            self.samples,  # type: ignore[arg-type]
            batch_sampler=positions,
            num_workers=self.loader.num_workers,
            collate_fn=self.loader.collate_fn,
        )
        for start, batch in zip(starts, loader):
            yield self._preprocess(batch), min(self.size, number - start)

    def compute(self, part: FrozenPart, inputs: Tensor) -> list[Tensor]:
        """Compute the frozen features of images, in the precision of training."""
        with self._optim.optim_context(self.model):
            return part.compute(self.backbone, inputs)

    def _preprocess(self, batch: Any) -> Batch:
        self._check_sizes(batch['inputs'])
        before = generator_states()
        data = self.model.data_preprocessor(batch, True)
        if generator_states() != before:
            raise ConfigError(
                'cache_features: the data preprocessor draws random numbers, as for Mixup or CutMix, so the images of '
                'a batch are other ones in every step. Remove train_cfg.augments or batch_augments of the model, or '
                'train without cache_features'
            )
        inputs, samples = data['inputs'], data.get('data_samples')
        if not isinstance(inputs, Tensor) or inputs.dim() != 4 or samples is None or len(samples) != len(inputs):
            raise ConfigError(
                'cache_features: the model must take a batch of images (N, 3, H, W) and a data sample for each, but '
                f'its data preprocessor returns {_describe(inputs)} and {_describe(samples)}'
            )
        return Batch(inputs, list(samples))

    def _check_sizes(self, inputs: Sequence[Tensor]) -> None:
        for image in inputs:
            self._shape = self._shape or tuple(image.shape)
            if tuple(image.shape) != self._shape:
                raise DataError(
                    f'cache_features: the images have several sizes, such as {self._shape} and {tuple(image.shape)}, '
                    'so the features of an image depend on the batch that it is padded in. Give '
                    'train_dataloader.dataset.pipeline steps that make one size, or train without cache_features'
                )


def _describe(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else f'a {type(value).__name__}'
