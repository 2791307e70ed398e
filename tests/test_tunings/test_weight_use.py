"""Attention that uses the weight of a layer directly gets the update; what can never learn is an error."""

import copy
from typing import Any

import pytest
import timm
import torch
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from protuning_mm import TunedBackbone, TuningError, register_reader
from protuning_mm.stages import Block, Stage, Stages
from tests.plain import fill, relative_error

_VIT = dict(img_size=32, patch_size=8, embed_dim=16, depth=4, num_heads=2)
# the attention of all of these calls F.linear with the weight of qkv and a bias put together from q, k and v
READING: dict[str, dict[str, Any]] = {
    'beit': dict(model_name='beit_base_patch16_224', **_VIT),
    'eva02': dict(model_name='eva02_tiny_patch14_224', **{**_VIT, 'img_size': 32}),
    'swinv2': dict(
        model_name='swinv2_tiny_window8_256', img_size=64, embed_dim=16, depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 4)
    ),
}
FAMILIES = pytest.mark.parametrize('family', list(READING))


def tuned_and_plain(family: str, tuning: Any) -> tuple[TunedBackbone, Any, Tensor]:
    settings = READING[family]
    plain = fill(timm.create_model(num_classes=0, **settings)).double().eval()
    tuned = TunedBackbone(dict(type='timm', **settings), tuning).double()
    tuned.load_state_dict(plain.state_dict(), strict=False)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for added in tuned.tunings[0].added.parameters():
            added += 0.1 * torch.randn(added.shape, generator=generator)
    size = settings['img_size']
    return tuned.train(), plain, torch.randn(2, 3, size, size, generator=generator).double()


def by_hand(family: str, kind: str, tuned: TunedBackbone, plain: nn.Module, x: Tensor) -> Tensor:
    """The plain network with changed tensors: W + s B A for LoRA, γ W and γ b + β for SSF.

    For DoRA V = W + s B A times g ‖W‖ / ‖V‖, which multiplies a bias that attention adds itself, too.
    """
    added = {path: tuned.tunings[0].added[key] for key, path in tuned.tunings[0].tapped_paths.items()}
    tensors = {**dict(plain.named_parameters()), **dict(plain.named_buffers())}
    for path, part in added.items():
        layer: Any = plain.get_submodule(path)
        if kind in ('lora', 'dora'):
            update = part.scale * torch.einsum('or,ri...->oi...', part.b.weight.flatten(1), part.a.weight)
            tensors[f'{path}.weight'] = layer.weight + update
            if kind == 'lora':
                continue
            norms = [w.detach().flatten(1).square().sum(1).sqrt() for w in (layer.weight, layer.weight + update)]
            factor = part.magnitude * norms[0] / norms[1]
            tensors[f'{path}.weight'] = tensors[f'{path}.weight'] * factor.view(-1, *[1] * (layer.weight.dim() - 1))
            for name, a in zip(('q_bias', 'k_bias', 'v_bias'), factor.chunk(3) if path.endswith('qkv') else ()):
                key = f'{path.rpartition(".")[0]}.{name}'
                tensors[key] = tensors[key] * a
            continue
        scale, shift = part.scale.flatten(), part.shift.flatten()
        tensors[f'{path}.weight'] = layer.weight * scale.view(-1, *[1] * (layer.weight.dim() - 1))
        if path.endswith('qkv'):
            parent = path.rpartition('.')[0]
            for name, a, b in zip(('q_bias', 'k_bias', 'v_bias'), scale.chunk(3), shift.chunk(3)):
                tensors[f'{parent}.{name}'] = tensors[f'{parent}.{name}'] * a + b
        else:
            bias = torch.zeros_like(shift) if layer.bias is None else layer.bias
            tensors[f'{path}.bias'] = bias * scale + shift
    return functional_call(plain, tensors, (x,))


@FAMILIES
@pytest.mark.parametrize('kind', ['lora', 'ssf', 'dora'])
def test_the_update_acts_where_the_weight_is_read(kind: str, family: str) -> None:
    """Outputs, and the gradient of every added tensor, in float64."""
    tuned, plain, x = tuned_and_plain(family, dict(type=kind))
    (ours,) = tuned(x)
    theirs = by_hand(family, kind, tuned, plain, x)
    assert relative_error(ours, theirs) < 1e-10
    params = [p for p in tuned.parameters() if p.requires_grad]
    weights = torch.linspace(-1, 1, ours.numel()).view_as(ours).double()
    got = torch.autograd.grad((ours * weights).sum(), params)
    expected = torch.autograd.grad((theirs * weights).sum(), params)
    for a, b in zip(got, expected, strict=True):
        assert relative_error(a, b) < 1e-8


@FAMILIES
def test_lora_is_merged_others_are_refused(family: str) -> None:
    tuned, _, x = tuned_and_plain(family, dict(type='lora'))
    merged = tuned.merge().eval()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in merged.modules())
    with torch.no_grad():
        assert relative_error(merged(x), tuned(x)[0]) < 1e-10
    for kind in ('ssf', 'dora'):
        message = rf"{kind} cannot be merged: '.*attn' uses the weight of '.*attn.qkv' directly"
        with pytest.raises(TuningError, match=message):
            tuned_and_plain(family, kind)[0].merge()


@FAMILIES
def test_copies_compiled_and_exported(family: str) -> None:
    tuned, _, x = tuned_and_plain(family, dict(type='lora'))
    tuned = tuned.eval()
    expected = tuned(x)[0]
    twin = copy.deepcopy(tuned)
    with torch.no_grad():
        for param in tuned.tunings[0].added.parameters():
            param.zero_()
    torch.testing.assert_close(twin(x)[0], expected)
    assert relative_error(tuned(x)[0], expected) > 1e-3
    if family == 'beit':
        torch._dynamo.reset()
        compiled = torch.compile(twin, fullgraph=True, backend='eager')
        torch.testing.assert_close(compiled(x)[0], expected)
        torch.testing.assert_close(torch.export.export(twin, (x,)).module()(x)[0], expected)


class PartlyIdle(nn.Module):
    """Its first block holds a layer that is not called, its second one whose result is dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.ModuleDict(dict(used=nn.Conv2d(c, 8, 3, 2, 1), idle=nn.Linear(8, 8), dropped=nn.Conv2d(8, 8, 3, 1, 1)))
            for c in (3, 8)
        )
        self.last = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x = stage['used'](x)
            stage['dropped'](x)
        return self.last(F.relu(x))


@pytest.fixture
def partly_idle() -> Any:
    def read(plain: nn.Module, num_stages: int) -> Stages:
        blocks = (Block('stages.0'), Block('stages.1'))
        return Stages((Stage(('stages',), blocks, 'last', 8),), (0,))

    register_reader('tests.PartlyIdle')(read)
    with MODELS.switch_scope_and_registry('mmdet'):
        MODELS.register_module(module=PartlyIdle, force=True)
    return dict(type='PartlyIdle')


def test_what_can_never_learn_is_refused_by_name(partly_idle: dict[str, Any]) -> None:
    with pytest.raises(TuningError) as told:
        TunedBackbone(partly_idle, dict(type='lora', rank=1))
    assert "'stages.0.idle'" in str(told.value) and 'tests.PartlyIdle' in str(told.value)
    assert 'at 3 other places' in str(told.value)
    TunedBackbone(partly_idle, 'pro')


@pytest.mark.parametrize('context', [torch.inference_mode, torch.no_grad])
def test_building_without_gradients_checks_all_the_same(context: Any, partly_idle: dict[str, Any]) -> None:
    with context():
        TunedBackbone(dict(type='timm', **READING['beit']), 'lora')
        with pytest.raises(TuningError, match='never learn'):
            TunedBackbone(partly_idle, dict(type='lora', rank=1))
