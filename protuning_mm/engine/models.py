"""What a runner's model is."""

from typing import Any

from mmengine.model import is_model_wrapper
from torch import nn


def unwrap(model: Any) -> nn.Module:
    """The model inside DistributedDataParallel and its kin."""
    return model.module if is_model_wrapper(model) else model
