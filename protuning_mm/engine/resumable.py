"""A check that a checkpoint contains the training state to resume from, which mmengine does not verify."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from protuning_mm.weights.errors import CheckpointError

_HUB = ('log_scalars', 'runtime_info', 'resumed_keys')


def check_resumable(checkpoint: Mapping[str, Any]) -> None:
    """Check the entries of a checkpoint that ``Runner.resume`` reads.

    Raises:
        CheckpointError: entries are missing or have a wrong type.
    """
    meta, hub = checkpoint.get('meta', {}), checkpoint.get('message_hub', {})
    lacking = [f'meta.{key}' for key in ('epoch', 'iter') if not _is_count(meta.get(key))]
    lacking += [f'message_hub.{key}' for key in _HUB if not isinstance(hub.get(key), Mapping)]
    kinds = dict(optimizer=Mapping, param_schedulers=list | Mapping)
    lacking += [key for key, kind in kinds.items() if not isinstance(checkpoint.get(key, {}), kind)]
    if lacking:
        raise CheckpointError(
            f'the checkpoint holds no training state to resume from ({", ".join(lacking)}: missing or of a wrong '
            'type). Resume from a checkpoint that a run saved; to start a new run from its weights, pass it as '
            'load_from without resume.'
        )


def _is_count(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= 0)
