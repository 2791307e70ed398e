"""Every module of timm.models: what is built computes what timm computes and trains as timm trains, or it is refused.

What it is compared with is timm's own network with the same tensors, run by its own forward. All is in float64: what
differs by more than rounding differs.
"""

import copy
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from protuning_lab.parameter_grid import no_memory
from protuning_mm import TunedBackbone, TuningError
from tests.plain import assert_identical, disturb, fill, relative_error, snapshot
from tests.timm_models import MISREAD, MODELS, NOT_AS_PYRAMID, ONE_STAGE, QUICK, REFUSED, UNREAD

TUNINGS = ('pro', 'linear', 'lora', 'full')
ROUNDING = 1e-8  # of the largest value


@lru_cache(maxsize=1)
def timm_model(module: str) -> Any:
    """timm's own, with values that no initialisation gives; what else it stores (indices, masks) stays."""
    torch.manual_seed(0)
    small = MODELS[module]
    plain = timm.create_model(small.name, num_classes=0, **(small.given or {}))
    own = {name: b.clone() for name, b in plain.named_buffers() if 'running' not in name and 'num_batches' not in name}
    fill(plain)
    damp(plain, small.gain)
    for name, buffer in plain.named_buffers():
        if name in own:
            buffer.copy_(own[name])
    return plain.double().eval()


def damp(network: nn.Module, gain: float) -> None:
    with torch.no_grad():
        for param in network.parameters():
            param *= gain if param.dim() > 1 else 1


def image_for(module: str) -> Tensor:
    size = MODELS[module].size
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(3)).double()


def config(module: str, pyramid: bool) -> dict[str, Any]:
    small = MODELS[module]
    outs = dict(out_indices=(0,) if module in ONE_STAGE else (0, -2)) if pyramid else {}
    return dict(type='timm', model_name=small.name, **outs, **(small.given or {}))


def features(plain: Any, x: Tensor, stages: int, outs: tuple[int, ...] | None) -> list[Tensor]:
    """What timm's own network returns, pooled or as a pyramid."""
    if outs is None:
        return [plain(x)]
    if hasattr(plain, 'num_prefix_tokens') and hasattr(plain, 'blocks'):
        ends = [(i + 1) * len(plain.blocks) // stages - 1 for i in range(stages)]
    else:
        ends = list(range(len(plain.feature_info)))[-stages:]  # without the stem
    return list(plain.forward_intermediates(x, indices=[ends[i] for i in outs], intermediates_only=True))


def step(network: nn.Module, outs: list[Tensor]) -> dict[str, Tensor | None]:
    """One of plain gradient descent, on a loss that no norm makes constant; the gradients are handed back."""
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(out.shape, generator=generator).double() for out in outs]
    sum((out / out.detach().abs().max() * w).mean() for out, w in zip(outs, weights)).backward()
    params = {name: p for name, p in network.named_parameters() if p.requires_grad}
    if params:
        torch.optim.SGD(params.values(), lr=1e-3).step()
    return {name: p.grad for name, p in params.items()}


def assert_same(got: dict[str, Tensor | None], expected: dict[str, Tensor | None]) -> None:
    assert got.keys() == expected.keys()
    largest = max((float(g.abs().max()) for g in expected.values() if g is not None), default=0.0)
    for name, want in expected.items():
        have = got[name]
        assert (have is None) == (want is None), name
        if have is not None and want is not None:
            assert torch.isfinite(have).all(), name
            limit = ROUNDING * float(want.abs().max()) + 1e-12 * largest  # some are nothing but rounding
            assert float((have - want).abs().max()) <= limit, name


def marked() -> list[Any]:
    cells = [(m, shape, tuning) for m in MODELS for shape in ('pooled', 'pyramid') for tuning in TUNINGS]
    return [pytest.param(*cell, id='-'.join(cell), marks=() if cell in QUICK else pytest.mark.slow) for cell in cells]


@pytest.mark.parametrize(('module', 'shape', 'tuning'), marked())
def test_computes_and_trains_as_timm_or_is_refused(module: str, shape: str, tuning: str) -> None:
    cfg = config(module, shape == 'pyramid')
    allowed = shape == 'pyramid' and (module, tuning) in NOT_AS_PYRAMID
    if tuning in REFUSED.get(module, ()) and not allowed:
        place = no_memory() if module in UNREAD else nullcontext()  # some are large, and need not be made
        with place, pytest.raises((TypeError, TuningError), match=f'timm model {cfg["model_name"]} '):
            TunedBackbone(cfg, tuning)
        return
    plain, x = timm_model(module), image_for(module)
    grads = {}
    for efficient in (True, False):
        tuned = TunedBackbone(cfg, tuning, efficient_frozen=efficient)
        missing, unexpected = tuned.load_state_dict(plain.state_dict(), strict=False)
        assert not unexpected and not any(key in tuned.plain_keys for key in missing)
        tuned.double().eval()
        outs = tuned.structure.outs if shape == 'pyramid' else None
        stages = len(tuned.structure.stages)
        with torch.no_grad():
            for ours, theirs in zip(tuned(x), features(plain, x, stages, outs), strict=True):
                assert ours.shape == theirs.shape and relative_error(ours, theirs) < ROUNDING
        for each in tuned.tunings:
            if each.added is not None:
                disturb(each.added)
                damp(each.added, MODELS[module].gain)
        tuned.train()
        frozen = snapshot(tuned)
        torch.manual_seed(7)
        grads[efficient] = step(tuned, list(tuned(x))) if tuning != 'linear' else {}
        assert_identical(tuned.state_dict(), {key: frozen[key] for key in tuned.frozen_keys})
    assert_same(grads[True], grads[False])
    if tuning == 'full':
        twin: Any = copy.deepcopy(plain).train()
        torch.manual_seed(7)
        expected = step(twin, features(twin, x, stages, outs))
        assert_same(grads[True], {name: expected[name] for name in grads[True]})
        assert not any(grad is not None for name, grad in expected.items() if name not in grads[True])
    elif tuning != 'linear':
        assert grads[True] and all(grad is not None for grad in grads[True].values())
        parts = {name.rpartition('.')[0].rpartition('.')[0] for name in grads[True]} if tuning == 'pro' else set()
        for part in parts:  # every prompt learns
            assert any(bool(grad.abs().sum() > 0) for name, grad in grads[True].items() if name.startswith(part)), part


def test_every_module_of_timm_is_in_the_table() -> None:
    assert set(timm.list_modules()) == set(MODELS), 'a module of timm is tested by standing in tests/timm_models.py'


def test_the_docs_list_what_is_read_and_what_is_refused() -> None:
    text = (Path(__file__).parents[2] / 'docs' / 'backbones.md').read_text()
    rows = [line.split('|')[1] for line in text.partition('| modules of `timm.models` |')[2].splitlines()[2:5]]
    read, misread, unread = ({module.strip() for module in row.split(',')} for row in rows)
    assert (misread, unread) == (set(MISREAD), set(UNREAD))
    assert read == set(MODELS) - misread - unread
