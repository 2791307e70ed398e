"""Vision transformers that people use today, of timm: each tuning trains on them or names the alternatives."""

from typing import Any

import pytest
import torch
from torch import Tensor

from protuning_mm import TunedBackbone
from protuning_mm.tunings import TuningError
from tests.families import TUNING_CFGS
from tests.plain import disturb, fill, relative_error

SMALL = dict(embed_dim=48, depth=4, num_heads=2)
ANY_SIZE = dict(dynamic_img_size=True, dynamic_img_pad=True)
NETWORKS: dict[str, dict[str, Any]] = {
    'dinov3': dict(model_name='vit_tiny_patch16_dinov3_qkvb', **ANY_SIZE),
    'dinov2': dict(model_name='vit_small_patch14_reg4_dinov2', img_size=56, **ANY_SIZE),
    'eva02': dict(model_name='eva02_tiny_patch14_224', img_size=56, **ANY_SIZE),
    'siglip': dict(model_name='vit_base_patch16_siglip_224', img_size=64, **ANY_SIZE),
    'deit3': dict(model_name='deit3_small_patch16_224', img_size=64, **ANY_SIZE),
    'beit': dict(model_name='beit_base_patch16_224', img_size=64),
}
PATCH = {'dinov2': 14, 'eva02': 14}
# BEiT's position bias has no entries for other tokens; none of them has a convolution
REFUSED = {(name, 'conv_adapter') for name in NETWORKS} | {('beit', 'vpt'), ('beit', 'vpt deep')}


def build(name: str, tuning: Any) -> TunedBackbone:
    torch.manual_seed(0)
    cfg = dict(type='timm', out_indices=(0, 1, 2, 3), **SMALL, **NETWORKS[name])
    return TunedBackbone(cfg, tuning, allow_random_backbone=True)


@pytest.mark.parametrize('tuning', TUNING_CFGS)
@pytest.mark.parametrize('name', NETWORKS)
def test_trains_or_names_the_alternatives(name: str, tuning: str) -> None:
    if (name, tuning) in REFUSED:
        with pytest.raises(TuningError, match='adapter|lora'):
            build(name, TUNING_CFGS[tuning])
        return
    backbone = build(name, TUNING_CFGS[tuning]).train()
    size = (64, 64) if name == 'beit' else (70, 100)  # no multiple of a patch
    outs = backbone(torch.randn(2, 3, *size))
    grid = tuple(-(-side // PATCH.get(name, 16)) for side in size)
    assert [tuple(out.shape[-2:]) for out in outs] == [grid] * 4
    trained = {key: param for key, param in backbone.named_parameters() if param.requires_grad}
    if tuning == 'linear':
        assert not trained
        return
    torch.stack([out.square().mean() for out in outs]).sum().backward()
    assert all(param.grad is not None for param in trained.values())
    assert not any(param.grad is not None for key, param in backbone.named_parameters() if key not in trained)


@pytest.mark.parametrize('deep', [False, True])
def test_vpt_with_rotary_positions_is_vpt_with_more_prefix_tokens(deep: bool) -> None:
    """The network itself does not rotate its prefix tokens; there the tokens are put by hand."""
    tuned = fill(build('dinov3', dict(type='vpt', number=3, deep=deep))).double().eval()
    disturb(tuned.vpt)
    plain: Any = build('dinov3', 'linear').double().plain
    plain.load_state_dict({key: value for key, value in tuned.state_dict().items() if key in tuned.plain_keys})
    plain.eval()
    image = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    prefix = plain.num_prefix_tokens
    seen: list[Tensor] = []
    tokens = list(tuned.vpt.parameters())

    def insert(layer: Any, args: Any, kwargs: Any) -> Any:
        x, i = args[0], len(seen)
        if deep and i:
            x = torch.cat((x[:, :prefix], x[:, prefix + 3 :]), 1)
        if deep or not i:
            x = torch.cat((x[:, :prefix], tokens[i if deep else 0].expand(2, -1, -1), x[:, prefix:]), 1)
        return (x, *args[1:]), kwargs

    def watch(layer: Any, args: Any, out: Tensor) -> None:
        seen.append(torch.cat((out[:, :prefix], out[:, prefix + 3 :]), 1))

    for block in plain.blocks:
        block.attn.num_prefix_tokens += 3
        block.register_forward_pre_hook(insert, with_kwargs=True)
        block.register_forward_hook(watch)
    plain.forward_intermediates(image, intermediates_only=True)
    expected = [out[:, prefix:].transpose(1, 2).reshape(2, -1, 4, 6) for out in seen]
    for ours, theirs in zip(tuned(image), expected, strict=True):
        assert relative_error(ours, theirs) < 1e-12
