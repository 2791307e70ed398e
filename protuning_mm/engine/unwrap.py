"""Access to the model inside a distributed wrapper."""

from typing import Any

from mmengine.model import is_model_wrapper
from torch import nn


def unwrap(model: Any) -> nn.Module:
    """Return the model inside a wrapper such as DistributedDataParallel, or the model itself if it has none."""
    return model.module if is_model_wrapper(model) else model
