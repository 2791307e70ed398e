"""A folder of stored features: those that fit a run are read, others are computed."""

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from protuning_mm.backbones.frozen_features import FrozenPart
from protuning_mm.data import DataError
from protuning_mm.engine.feature_cache.batches import TrainingBatches
from protuning_mm.engine.feature_cache.folder_lock import lock_folder
from protuning_mm.engine.feature_cache.store import FeatureStore, read_identities, write_store
from protuning_mm.engine.feature_cache.tensor_file import TensorLayout

_INTERVAL = 30.0  # seconds between two lines of the log
# On a GPU, the same features computed twice may differ by rounding: this part of the largest value.
_GPU_ROUNDING = 0.01


class FeatureFolder:
    """Stored features of one or several runs.

    Args:
        path (Path): The folder; it is created.
        max_gb (float): Largest size of the features of a run in GB.
        logger (Logger): The run's log.
    """

    def __init__(self, path: Path, max_gb: float, logger: Any) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path, self.max_gb, self.logger = path, max_gb, logger

    def open(
        self, identity: dict[str, str], batches: TrainingBatches, part: FrozenPart, first: Sequence[Tensor]
    ) -> FeatureStore:
        """Open the features of a training set; compute and store them if no valid ones are there.

        Args:
            identity (dict[str, str]): What the features depend on. Each identity has its own subfolder.
            batches (TrainingBatches): The training set.
            part (FrozenPart): The frozen part of the backbone.
            first (Sequence[Tensor]): Features of the first batch, with which the stored ones must agree.

        Raises:
            DataError: the features are too large, or other ones in a second pass.
        """
        path = self.path / hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
        with lock_folder(self.path, self.logger):
            found = self._find(path, identity, first)
            if isinstance(found, FeatureStore):
                self.logger.info(f'cached features: {_describe(found)} are read from {path}')
                return found
            self.logger.info(f'cached features: {found}; they are computed now')
            start = time.monotonic()
            layouts = [TensorLayout.of(batch) for batch in first]
            self._check_space(part.names, layouts, len(batches))
            write_store(path, identity, part.names, layouts, len(batches), self._compute(batches, part))
            store = FeatureStore(path)
            took = time.monotonic() - start
            self.logger.info(f'cached features: {_describe(store)} were stored in {path}, {took:.1f} s')
            if not _agree(store, first):
                shutil.rmtree(path)
                raise DataError(
                    'cache_features: the features of the first images differ between two passes, so something in the '
                    'training pipeline or the backbone is random. Train without cache_features'
                )
            return store

    def _find(self, path: Path, identity: dict[str, str], first: Sequence[Tensor]) -> FeatureStore | str:
        """Return stored features, or why there are none that can be used."""
        if not path.is_dir():
            others = read_identities(self.path)
            changed = [[key for key in identity if other.get(key) != identity[key]] for other in others]
            if not changed:
                return f'{self.path} has none'
            fewest = min(changed, key=len)
            return f'those in {self.path} are of other {" and ".join(fewest)}'
        try:
            store = FeatureStore(path)
        except DataError as error:
            return str(error)
        if _agree(store, first):
            return store
        return f'those of the first images in {path} differ from what this run computes'

    def _compute(self, batches: TrainingBatches, part: FrozenPart) -> Iterator[tuple[Sequence[Tensor], Sequence[Any]]]:
        start = last = time.monotonic()
        done = 0
        for batch, new in batches:
            yield [feature[:new] for feature in batches.compute(part, batch.inputs)], batch.samples[:new]
            done += new
            if time.monotonic() - last > _INTERVAL:
                last = time.monotonic()
                self.logger.info(f'cached features: {done:,} of {len(batches):,} images, {last - start:.0f} s')

    def _check_space(self, names: Sequence[str], layouts: Sequence[TensorLayout], number: int) -> None:
        """Refuse features that are larger than allowed, or than the disk has room for.

        Raises:
            DataError: they are.
        """
        each = sum(layout.bytes_per_row for layout in layouts)
        free = shutil.disk_usage(self.path).free
        if each * number <= min(self.max_gb * 1e9, 0.95 * free):
            return
        tensors = ', '.join(f'{name} {layout.shape}' for name, layout in zip(names, layouts))
        allowed = each * number <= self.max_gb * 1e9
        limit = f'are free ({free / 1e9:.1f} GB)' if allowed else f'max_gb={self.max_gb:g} allows'
        raise DataError(
            f'cache_features: the features of {number:,} images need {each * number / 1e9:.1f} GB, '
            f'{each / 1e3:,.0f} kB an image ({tensors}), more than {limit} in {self.path}. Smaller: fewer out_indices, '
            "prompts that begin later, or the tuning 'linear'. Larger: cache_features=dict(max_gb=…, folder=…)"
        )


def _agree(store: FeatureStore, first: Sequence[Tensor]) -> bool:
    """Compare stored features with computed ones: bit for bit on a CPU."""
    number = min(len(first[0]), len(store))
    for one, computed in zip(store.read(range(number)), first, strict=True):
        other = computed[:number].cpu()
        if one.shape != other.shape or one.dtype != other.dtype:
            return False
        if computed.is_cuda:
            same = bool((one - other).abs().max() <= _GPU_ROUNDING * other.abs().max())
        else:
            same = torch.equal(torch.nan_to_num(one), torch.nan_to_num(other))
        if not same:
            return False
    return True


def _describe(store: FeatureStore) -> str:
    each = store.nbytes / len(store)
    return f'those of {len(store):,} images, {store.nbytes / 1e6:,.1f} MB ({each / 1e3:,.1f} kB each),'
