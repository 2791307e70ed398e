"""Preparation of a checkpoint of another task for loading.

Heads of another size keep their initial values, and copies of a backbone get the backbone's tensors.
"""

from typing import Any

from torch import Tensor, nn

from protuning_mm.backbones import tuned_backbones
from protuning_mm.engine.followers import averaged_copies


def drop_reshaped(model: nn.Module, state: dict[str, Any]) -> dict[str, str]:
    """Remove tensors from a state dict whose shape differs from the model's, as when ``num_classes`` differs.

    Tensors of tuned backbones are kept, because those are loaded strictly.

    Args:
        model (nn.Module): The model that will load the state dict.
        state (dict): Changed in place.

    Returns:
        dict: Removed key -> text with both shapes.
    """
    expected = model.state_dict()
    strict = {
        f'{name}.{key}' if name else key
        for name, backbone in tuned_backbones(model).items()
        for key in backbone.plain_keys
    }
    reshaped = {
        key: f'{_shape(state[key])} in the checkpoint, {_shape(expected[key])} in the model'
        for key in state
        if key in expected and key not in strict and _shape(state[key]) != _shape(expected[key])
    }
    for key in reshaped:
        del state[key]
    return reshaped


def fill_copies(model: nn.Module, state: dict[str, Any]) -> None:
    """Add the tensors of a backbone's averaged copies to a state dict that only has the backbone's own tensors."""
    for each in averaged_copies(model):
        for key in each.backbone.plain_keys:
            if f'{each.leader_name}.{key}' in state:
                state.setdefault(f'{each.name}.{key}', state[f'{each.leader_name}.{key}'])


def _shape(value: Any) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None
