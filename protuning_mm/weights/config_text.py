"""The text of a config inside a checkpoint: mmengine parses it as Python, so it is never handed on.

mmengine saves every run's config as text. An inferencer that is given no config parses that text and builds what it
says; ``Runner.resume`` parses the older ``meta['config']``. No check of the text makes that safe: the registries import
any dotted ``type`` and call it, and mmengine rewrites ``{{…}}`` before it parses.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

from mmengine.infer import BaseInferencer

from protuning_mm.weights.errors import CheckpointError

_KEYS = ('cfg', 'config')


def drop_config_text(checkpoint: dict[str, Any]) -> None:
    """Take the config's text out of a checkpoint that was just read, in place."""
    hub = checkpoint.get('message_hub')
    for holder in (checkpoint.get('meta'), hub.get('runtime_info') if isinstance(hub, dict) else None):
        if isinstance(holder, dict):
            for key in _KEYS:
                holder.pop(key, None)


def require_config(init_model: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse an inferencer that is given weights and no config."""

    @wraps(init_model)
    def init(self: BaseInferencer, cfg: Any, weights: str | None, *args: Any, **kwargs: Any) -> Any:
        if not cfg:
            raise CheckpointError(
                f'{type(self).__name__}(weights={weights!r}) needs the config too: '
                f'{type(self).__name__}(<config>, {weights!r}). The text of a config inside a checkpoint is Python, '
                'and protuning_mm does not run it.'
            )
        return init_model(self, cfg, weights, *args, **kwargs)

    return init
