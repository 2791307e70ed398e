"""Everything that importing protuning_mm changes in other libraries."""

from torch.nn.modules.module import register_module_module_registration_hook

from protuning_mm import config_bridge
from protuning_mm.backbones.delta_loading import accept_deltas
from protuning_mm.engine import constructors
from protuning_mm.weights import doors


def install() -> None:
    """Apply the changes."""
    config_bridge.install()
    doors.install()
    constructors.install()
    register_module_module_registration_hook(accept_deltas)
