"""Loading of deltas into models with tuned backbones: a delta is completed from its frozen base before loading."""

from torch import Tensor, nn

from protuning_mm.backbones.tuned_backbone import TunedBackbone
from protuning_mm.weights.deltas import complete_delta


def tuned_backbones(model: nn.Module) -> dict[str, TunedBackbone]:
    """Return module path -> backbone for all tuned backbones in a model."""
    return {name: part for name, part in model.named_modules() if isinstance(part, TunedBackbone)}


def accept_deltas(parent: nn.Module, name: str, child: nn.Module | None) -> None:
    """Let every model that contains a tuned backbone load deltas; torch calls this for each new child of a module.

    The backbone itself cannot complete a delta: the record in a delta covers the whole model, while a child only
    receives its own part of the state dict.
    """
    if _accepts(child) and not _accepts(parent):
        object.__setattr__(parent, 'accepts_deltas', True)
        parent.register_load_state_dict_pre_hook(_complete_delta)


def _complete_delta(model: nn.Module, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
    complete_delta(model, tuned_backbones(model), state_dict, prefix)


def _accepts(module: nn.Module | None) -> bool:
    # not getattr: a compiled model would look up a missing attribute in the model that it is about to contain
    return isinstance(module, TunedBackbone) or (module is not None and 'accepts_deltas' in vars(module))
