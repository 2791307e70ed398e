"""Models with tuned backbones load deltas: each completes a delta from its frozen base before it loads."""

from torch import Tensor, nn

from protuning_mm.backbones.tuned_backbone import TunedBackbone
from protuning_mm.weights.deltas import complete


def tuned_backbones(model: nn.Module) -> dict[str, TunedBackbone]:
    """The tuned backbones in a model, by name."""
    return {name: part for name, part in model.named_modules() if isinstance(part, TunedBackbone)}


def accept_deltas(parent: nn.Module, name: str, child: nn.Module | None) -> None:
    """Let every model that takes in a tuned backbone complete deltas; torch calls this for each new child of a module.

    The backbone cannot do it: a delta's record covers the whole model, and a child sees only its own part of a state
    dict.
    """
    if _accepts(child) and not _accepts(parent):
        object.__setattr__(parent, 'accepts_deltas', True)
        parent.register_load_state_dict_pre_hook(_complete_delta)


def _complete_delta(model: nn.Module, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
    complete(model, tuned_backbones(model), state_dict, prefix)


def _accepts(module: nn.Module | None) -> bool:
    # not getattr: a compiled model looks for what it lacks in the model that it is about to take in
    return isinstance(module, TunedBackbone) or (module is not None and 'accepts_deltas' in vars(module))
