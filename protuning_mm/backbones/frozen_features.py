"""The features that a tuned backbone computes before any trained parameter takes part.

They are a function of the image alone, so they can be computed once and used in the place of the image::

    part = find_frozen_part(backbone, images)
    features = FrozenFeatures(part, part.compute(backbone, images))
    backbone(features)  # what backbone(images) returns
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor


class FrozenPart(ABC):
    """The part of a tuned backbone's forward before the first trained parameter.

    It refers to modules by their paths, so that it also serves a copy of the backbone.

    Attributes:
        names (tuple[str]): Names of the tensors that it computes.
    """

    names: tuple[str, ...]

    @abstractmethod
    def compute(self, backbone: Any, image: Tensor) -> list[Tensor]:
        """Compute the frozen features of images, in the order of :attr:`names`.

        Args:
            backbone (TunedBackbone): The backbone.
            image (Tensor): (N, 3, H, W).
        """

    @abstractmethod
    def resume(self, backbone: Any, tensors: Sequence[Tensor]) -> Any:
        """Run the rest of the forward.

        Args:
            backbone (TunedBackbone): The backbone.
            tensors (Sequence[Tensor]): The result of :meth:`compute`.

        Returns:
            Any: Outputs of the plain backbone's forward, for the tunings' ``after_forward``.
        """

    @abstractmethod
    def __str__(self) -> str:
        """Say what need not be computed again."""


@dataclass(frozen=True)
class FrozenFeatures:
    """Stands for images as the input of a tuned backbone.

    Args:
        part (FrozenPart): What computed the features.
        tensors (Sequence[Tensor]): The features of N images.
    """

    part: FrozenPart
    tensors: Sequence[Tensor]

    def resume(self, backbone: Any) -> Any:
        """Run the rest of the backbone's forward; see :meth:`FrozenPart.resume`."""
        return self.part.resume(backbone, self.tensors)
