"""A hook that computes the frozen features of the training images once."""

from functools import partial
from pathlib import Path
from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from protuning_mm.backbones.frozen_features import FrozenFeatures
from protuning_mm.backbones.frozen_part import find_frozen_part
from protuning_mm.data.cached_samples import CachedSamples
from protuning_mm.engine.errors import ConfigError
from protuning_mm.engine.feature_cache.batches import TrainingBatches
from protuning_mm.engine.feature_cache.cached_inputs import CachedInputs
from protuning_mm.engine.feature_cache.feature_folder import FeatureFolder
from protuning_mm.engine.feature_cache.identity import identify, read_settings
from protuning_mm.engine.feature_cache.sample_content import element_classes
from protuning_mm.engine.feature_cache.tensor_file import as_stored
from protuning_mm.engine.feature_cache.trial import compare_steps, describe_last_batch
from protuning_mm.engine.random_state import keep_random_state
from protuning_mm.registry import HOOKS

FOLDER = 'cached_features'  # in the work dir


@HOOKS.register_module()
class FeatureCacheHook(Hook):
    """Stores the frozen features of the training images, so that steps load no image and skip the frozen stages.

    Before training, the features of all images are read from a folder, or computed and stored there. They belong to the
    backbone's weights, the images, the pipeline and the batch size; if one of these changes, or a file is damaged,
    they are computed again. Validation and test are not affected. The run ends as one without this hook, bit for bit
    on a CPU if every batch of an epoch has the same size; otherwise the log says what differs.

    The training set must be wrapped in :class:`~protuning_mm.data.cached_samples.CachedSamples`; the config key
    ``cache_features`` adds both.

    Args:
        folder (str, optional): Folder of the features, which several runs may share. Defaults to ``cached_features`` in
            the work dir.
        draws (int, optional): Number of fixed draws of each image, for pipelines with random augmentation; epoch e uses
            draw e mod ``draws``. Defaults to None: nothing in the pipeline may be random.
        max_gb (float): Largest size of the features in GB. Defaults to 50.

    Raises:
        TuningError: the end of the first stage depends on trained parameters already.
        ConfigError: the model needs more than the features, the data preprocessor is random, or several processes
            train.
        DataError: the pipeline is random, images have several sizes, or the features are too large.
    """

    priority = 'VERY_LOW'  # after all hooks that change weights or the model before training

    def __init__(self, folder: str | None = None, draws: int | None = None, max_gb: float = 50.0) -> None:
        if draws is not None and (not isinstance(draws, int) or draws < 1):
            raise ConfigError(f'cache_features: draws={draws!r} must be a whole number, 1 or more')
        self.folder, self.draws, self.max_gb = folder, draws, max_gb
        self._used: tuple[CachedSamples, CachedInputs] | None = None

    def before_train(self, runner: Runner) -> None:
        if get_world_size() > 1:
            raise ConfigError(
                'cache_features: features are stored for one process only; start one process without a launcher, or '
                'train without cache_features'
            )
        wrapper = _find_wrapper(runner.train_dataloader.dataset)
        batches = TrainingBatches(runner, wrapper.dataset, self.draws)
        runner.model.train()
        with keep_random_state():
            inputs = self._prepare(runner, wrapper, batches)
        inputs.install()
        wrapper.indices_only = True
        self._used = wrapper, inputs

    def _prepare(self, runner: Runner, wrapper: CachedSamples, batches: TrainingBatches) -> CachedInputs:
        first = batches.first()
        with runner.optim_wrapper.optim_context(batches.model):
            part = find_frozen_part(batches.backbone, first.inputs)
        features = batches.compute(part, first.inputs)
        given = FrozenFeatures(part, [as_stored(feature) for feature in features])
        difference = compare_steps(batches.model, first, given, runner.optim_wrapper.optim_context)
        identity = identify(batches.backbone, part, wrapper.dataset, read_settings(runner.cfg), batches.computation)
        folder = FeatureFolder(Path(self.folder or Path(runner.work_dir) / FOLDER), self.max_gb, runner.logger)
        store = folder.open(identity, batches, part, features)
        said = (
            f'differ from those on the images by {difference:.1g}'
            if difference
            else 'equal those on the images bit for bit'
        )
        rest = describe_last_batch(batches, part, first)
        runner.logger.info(f'cached features: training steps no longer run {part}; steps {said}{rest}')
        offset = partial(_offset, runner, len(wrapper.dataset), self.draws or 1)
        return CachedInputs(batches.model.data_preprocessor, store, part, element_classes(first.samples), offset)

    def after_train(self, runner: Runner) -> None:
        if self._used is not None:
            wrapper, inputs = self._used
            wrapper.indices_only = False
            inputs.remove()
            self._used = None


def _find_wrapper(dataset: Any) -> CachedSamples:
    """Find the wrapper, which may be inside others, such as RepeatDataset.

    Raises:
        ConfigError: there is none.
    """
    while not isinstance(dataset, CachedSamples):
        if not hasattr(dataset, 'dataset'):
            raise ConfigError(
                'FeatureCacheHook: train_dataloader.dataset is not wrapped in CachedSamples; set the config key '
                'cache_features=True, which adds both'
            )
        dataset = dataset.dataset
    return dataset


def _offset(runner: Runner, number: int, draws: int) -> int:
    """Return where the samples of the current draw begin."""
    loop = runner.train_loop
    epoch = runner.epoch if isinstance(loop, EpochBasedTrainLoop) else runner.iter // len(loop.dataloader)
    return number * (epoch % draws)
