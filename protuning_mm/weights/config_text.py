"""The text of a config inside a checkpoint: removed when a checkpoint is read, because mmengine runs it as Python.

mmengine saves every run's config as text. An inferencer without a config parses that text and builds what it names,
and ``Runner.resume`` parses the older ``meta['config']``. No check of the text can make that safe: the registries
import and call any dotted ``type``, and mmengine replaces ``{{…}}`` before it parses.
"""

from collections.abc import Callable
from typing import Any

from protuning_mm.weights.errors import CheckpointError

_KEYS = ('cfg', 'config')


def drop_config_text(checkpoint: dict[str, Any]) -> None:
    """Remove the text of the config from a loaded checkpoint, in place."""
    hub = checkpoint.get('message_hub')
    for holder in (checkpoint.get('meta'), hub.get('runtime_info') if isinstance(hub, dict) else None):
        if isinstance(holder, dict):
            for key in _KEYS:
                holder.pop(key, None)


def require_config(init: Callable[..., Any], inferencer: Any, cfg: Any, weights: Any, *args: Any, **kwargs: Any) -> Any:
    """Call ``BaseInferencer._init_model``; raise a CheckpointError if there are weights but no config."""
    if not cfg:
        name = type(inferencer).__name__
        raise CheckpointError(
            f'{name}(weights={weights!r}) needs the config too: {name}(<config>, {weights!r}). The text of the config '
            'inside a checkpoint is Python code, and protuning_mm does not run it.'
        )
    return init(inferencer, cfg, weights, *args, **kwargs)
