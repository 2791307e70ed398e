"""The random streams of a process, as tensors and numbers that a checkpoint can hold without code."""

import random
from typing import Any

import numpy as np
import torch

State = dict[str, Any]


def random_state() -> State:
    """The states of Python's, numpy's and torch's generators, every CUDA device's among them."""
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
    """Go on from what :func:`random_state` returned."""
    python, of_numpy = state['python'], state['numpy']
    random.setstate((python['version'], tuple(python['words'].tolist()), python['gauss']))
    keys = of_numpy['keys'].cpu().numpy().astype(np.uint32)
    np.random.set_state((of_numpy['name'], keys, of_numpy['position'], of_numpy['has_gauss'], of_numpy['cached']))
    torch.set_rng_state(state['torch'].cpu())
    if torch.cuda.is_available() and len(state['cuda']) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([each.cpu() for each in state['cuda']])
