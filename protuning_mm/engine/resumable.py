"""Whether a checkpoint holds what a run goes on from; mmengine takes its parts without looking."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from protuning_mm.weights.errors import CheckpointError

_HUB = ('log_scalars', 'runtime_info', 'resumed_keys')


def check_resumable(checkpoint: Mapping[str, Any]) -> None:
    """Check the parts that ``Runner.resume`` reads.

    Raises:
        CheckpointError: names what is missing or of another kind, and what to do with such a file.
    """
    meta, hub = checkpoint.get('meta', {}), checkpoint.get('message_hub', {})
    lacking = [f'meta.{key}' for key in ('epoch', 'iter') if not _is_count(meta.get(key))]
    lacking += [f'message_hub.{key}' for key in _HUB if not isinstance(hub.get(key), Mapping)]
    for key, kinds in (('optimizer', Mapping), ('param_schedulers', list | Mapping)):
        if not isinstance(checkpoint.get(key, {}), kinds):
            lacking.append(key)
    if lacking:
        raise CheckpointError(
            f'the checkpoint holds no training state to resume from ({", ".join(lacking)}: missing or of another '
            'kind). Resume from one that a run saved; to start a new run from its weights, give it as load_from '
            'without resume.'
        )


def _is_count(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= 0)
