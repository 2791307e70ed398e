"""Mona: where its adapters act, and what they compute."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from protuning_mm import TunedBackbone
from protuning_mm.blocks import Mona
from tests.plain import disturb, relative_error


def test_adapter_computes_the_authors_formula() -> None:
    torch.manual_seed(0)
    mona = Mona(6, hidden=4).double().eval()
    disturb(mona)
    x = torch.randn(2, 6, 5, 7).double()
    tokens = x.flatten(2).transpose(1, 2)
    mean, var = tokens.mean(-1, keepdim=True), tokens.var(-1, unbiased=False, keepdim=True)
    normed = (tokens - mean) / (var + 1e-5).sqrt() * mona.norm.weight + mona.norm.bias
    low = (normed * mona.norm_scale + tokens * mona.scale) @ mona.down.weight.T + mona.down.bias
    h = low.transpose(1, 2).reshape(2, 4, 5, 7)
    around = sum(F.conv2d(h, c.weight, c.bias, padding=c.weight.shape[-1] // 2, groups=4) for c in mona.convs) / 3 + h
    mixed = torch.einsum('nchw,dc->ndhw', around, mona.mix.weight[..., 0, 0]) + mona.mix.bias[:, None, None]
    out = F.gelu(around + mixed).flatten(2).transpose(1, 2) @ mona.up.weight.T + mona.up.bias
    expected = x + out.transpose(1, 2).reshape_as(x)
    assert relative_error(mona(x), expected) < 1e-12


def tokens_through(mona: nn.Module, tokens: Tensor, prefix: int, grid: tuple[int, int]) -> Tensor:
    patches = tokens[:, prefix:].transpose(1, 2).unflatten(2, grid)
    return torch.cat((tokens[:, :prefix], mona(patches).flatten(2).transpose(1, 2)), 1)


@pytest.mark.parametrize(
    'cfg',
    [
        dict(
            type='timm',
            model_name='vit_tiny_patch16_224',
            depth=4,
            embed_dim=16,
            num_heads=2,
            img_size=64,
            init_values=0.5,
        ),
        dict(
            type='mmseg.VisionTransformer',
            img_size=64,
            embed_dims=16,
            num_layers=4,
            num_heads=2,
            out_indices=(3,),
            final_norm=False,
        ),
    ],
    ids=['timm', 'mmseg'],
)
def test_acts_after_both_residual_sums(cfg: dict[str, Any]) -> None:
    """Computed layer by layer, with the branches of the plain layers."""
    import mmseg.models  # noqa: F401

    torch.manual_seed(0)
    tuned = TunedBackbone(cfg, tuning=dict(type='mona', hidden=4), allow_random_backbone=True).double().eval()
    disturb(tuned)
    seen: list[tuple[Tensor, Tensor]] = []
    layers = tuned.plain.blocks if cfg['type'] == 'timm' else tuned.plain.layers
    for layer in layers:
        layer.register_forward_hook(lambda _, args, out: seen.append((args[0], out)))
    with torch.no_grad():
        tuned(torch.randn(2, 3, 64, 80 if cfg['type'] != 'timm' else 64).double())
        added = list(tuned.tunings[0].added.values())
        plain = tuned.untuned()
        for i, layer in enumerate((plain.blocks if cfg['type'] == 'timm' else plain.layers)[:-1]):
            x, y = seen[i]
            if cfg['type'] == 'timm':
                grid, u = (4, 4), x + layer.ls1(layer.attn(layer.norm1(x)))
            else:
                grid, u = (4, 5), layer.attn(layer.norm1(x), identity=x)
            u = tokens_through(added[2 * i], u, 1, grid)
            end = (
                u + layer.ls2(layer.mlp(layer.norm2(u)))
                if cfg['type'] == 'timm'
                else layer.ffn(layer.norm2(u), identity=u)
            )
            assert relative_error(y, tokens_through(added[2 * i + 1], end, 1, grid)) < 1e-12


def test_acts_in_segformer_s_backbone() -> None:
    """MiT has no MLP of linear layers, which other adapters need; computed layer by layer."""
    import mmseg.models  # noqa: F401

    torch.manual_seed(0)
    cfg = dict(type='mmseg.MixVisionTransformer', embed_dims=8, num_layers=[2, 1, 1, 2], num_heads=[1, 1, 2, 2])
    tuned = TunedBackbone(cfg, tuning=dict(type='mona', hidden=4), allow_random_backbone=True).double().eval()
    disturb(tuned)
    seen: list[tuple[Any, Tensor]] = []
    for stage in tuned.plain.layers:
        for layer in stage[1]:
            layer.register_forward_hook(lambda _, args, out: seen.append((args, out)))
    with torch.no_grad():
        tuned(torch.randn(2, 3, 64, 96).double())
        added = list(tuned.tunings[0].added.values())
        assert len(added) == 2 * len(seen) == 12
        plain = tuned.untuned()
        for i, layer in enumerate(layer for stage in plain.layers for layer in stage[1]):
            (x, grid), y = seen[i]
            u = tokens_through(added[2 * i], layer.attn(layer.norm1(x), grid, identity=x), 0, grid)
            end = layer.ffn(layer.norm2(u), grid, identity=u)
            assert relative_error(y, tokens_through(added[2 * i + 1], end, 0, grid)) < 1e-12


def test_convolutional_networks_are_refused() -> None:
    with pytest.raises(ValueError, match="mona needs transformer layers, and .* has no attention: use 'conv_adapter'"):
        TunedBackbone(dict(type='timm', model_name='resnet10t'), tuning='mona')
    with pytest.raises(ValueError, match='mona with hidden=0: hidden must be a positive integer'):
        TunedBackbone(dict(type='timm', model_name='vit_tiny_patch16_224'), tuning=dict(type='mona', hidden=0))
