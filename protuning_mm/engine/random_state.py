"""The random states of a process, as tensors and numbers that a checkpoint can store without pickled code."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from protuning_mm.weights import CheckpointError

State = dict[str, Any]


def random_state() -> State:
    """Return the states of the random generators of Python, numpy, torch and all CUDA devices."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    return dict(
        python=dict(version=version, words=torch.tensor(words, dtype=torch.int64), gauss=gauss),
        numpy=dict(
            name=str(name),
            keys=torch.from_numpy(np.asarray(keys).astype(np.int64)),
            position=int(position),
            has_gauss=int(has_gauss),
            cached=float(cached),
        ),
        torch=torch.get_rng_state(),
        cuda=[state.cpu() for state in torch.cuda.get_rng_state_all()] if torch.cuda.is_available() else [],
    )


def set_random_state(state: State) -> None:
    """Restore the states that :func:`random_state` returned.

    Raises:
        CheckpointError: ``state`` does not have that format.
    """
    try:
        python, of_numpy = state['python'], state['numpy']
        words = (python['version'], tuple(python['words'].tolist()), python['gauss'])
        keys = of_numpy['keys'].cpu().numpy().astype(np.uint32)
        position = of_numpy['position']
        if not 0 <= position <= keys.size:  # numpy would read memory beyond the keys
            raise ValueError(f"numpy's position {position} is outside of its {keys.size} words")
        random.setstate(words)
        np.random.set_state((of_numpy['name'], keys, position, of_numpy['has_gauss'], of_numpy['cached']))
        torch.set_rng_state(state['torch'].cpu())
        if torch.cuda.is_available() and len(state['cuda']) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([each.cpu() for each in state['cuda']])
    except (AttributeError, IndexError, KeyError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f'the random states in the checkpoint do not have the format of ExactResumeHook ({error}). Resume from '
            'another checkpoint, or start a new run from this one with load_from.'
        ) from None


@contextmanager
def keep_random_state() -> Iterator[None]:
    """Restore the random states at the end of this context, so that what happens inside leaves no trace in them."""
    state = random_state()
    try:
        yield
    finally:
        set_random_state(state)
