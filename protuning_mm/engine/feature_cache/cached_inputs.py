"""The forward of a data preprocessor that also accepts samples whose features are stored."""

from collections.abc import Callable
from typing import Any

from protuning_mm.backbones.frozen_features import FrozenFeatures, FrozenPart
from protuning_mm.data.cached_samples import INDEX
from protuning_mm.engine.feature_cache.store import FeatureStore


class CachedInputs:
    """Replaces ``forward`` of a data preprocessor: indices become features, images are preprocessed as before.

    Args:
        preprocessor (nn.Module): The data preprocessor.
        store (FeatureStore): The stored features.
        part (FrozenPart): What computed them.
        classes (dict[str, type]): Classes of the data samples, by name.
        offset (Callable): Returns what is added to an index, for the current draw.
    """

    def __init__(
        self,
        preprocessor: Any,
        store: FeatureStore,
        part: FrozenPart,
        classes: dict[str, type],
        offset: Callable[[], int],
    ) -> None:
        self._preprocessor = preprocessor
        self._plain = preprocessor.forward
        self._store, self._part, self._classes, self._offset = store, part, classes, offset

    def __call__(self, data: Any, training: bool = False) -> Any:
        if not isinstance(data, dict) or INDEX not in data:
            return self._plain(data, training)
        device = self._preprocessor.device
        indices = [int(i) + self._offset() for i in data[INDEX]]
        tensors = [tensor.to(device) for tensor in self._store.read(indices)]
        samples = self._store.read_samples(indices, self._classes)
        if device.type != 'cpu':
            samples = [sample.to(device) for sample in samples]
        return dict(inputs=FrozenFeatures(self._part, tensors), data_samples=samples)

    def __deepcopy__(self, memo: dict[int, Any]) -> 'CachedInputs':
        return self  # a memory map cannot be copied

    def install(self) -> None:
        self._preprocessor.forward = self

    def remove(self) -> None:
        del self._preprocessor.__dict__['forward']
