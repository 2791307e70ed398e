"""How many parameters a tuning trains, by formulas written from the papers."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from torch import nn

from protuning_mm import TunedBackbone
from tests.families import CELLS, FAMILIES


def width(channels: int) -> int:
    """0.32 C to the next multiple of 8, at least 8."""
    return max(8, int(0.32 * channels / 8 + 0.5) * 8)


def added(family: str, **tuning: object) -> tuple[int, TunedBackbone]:
    tuned = TunedBackbone(FAMILIES[family], tuning)
    assert not tuned.trained_keys
    return sum(p.numel() for p in tuned.parameters() if p.requires_grad), tuned


# stages' channels and how many layers each has, by hand from tests/families.py
STAGES = {
    'mmdet.ResNet': ((8, 2), (16, 2), (32, 2), (64, 2)),
    'mmdet.ResNet50': ((16, 3), (32, 4), (64, 6), (128, 3)),
    'mmdet.Swin': ((8, 1), (16, 1), (32, 2), (64, 1)),
    'mmpretrain.ConvNeXt': ((8, 1), (16, 1), (24, 2), (32, 1)),
    'mmseg.ViT': ((16, 1), (16, 1), (16, 1), (16, 1)),
    'mmpretrain.ViT_cls': ((16, 1), (16, 1), (16, 1), (16, 1)),
    'timm.swin': ((8, 1), (16, 1), (32, 2), (64, 1)),
    'timm.vit': ((16, 1), (16, 1), (16, 1), (16, 1)),
}


@pytest.mark.parametrize('family', STAGES)
def test_pro(family: str) -> None:
    # 1x1, norm, 5x5 depth-wise, norm, 1x1 with bias
    expected = sum(
        c * width(c) + 2 * width(c) + 25 * width(c) + 2 * width(c) + width(c) * c + c for c, _ in STAGES[family]
    )
    assert added(family, type='pro')[0] == expected


@pytest.mark.parametrize('family', [f for f in STAGES if (f, 'adapter') in CELLS])
@pytest.mark.parametrize('variant', [1, 2])
def test_adapter(family: str, variant: int) -> None:
    expected = sum(variant * n * (c * (c // 4) + c // 4 + (c // 4) * c + c) for c, n in STAGES[family])
    assert added(family, type='adapter', variant=variant, reduction=4)[0] == expected


@pytest.mark.parametrize('family', [f for f in STAGES if (f, 'vpt') in CELLS])
@pytest.mark.parametrize('deep', [False, True])
def test_vpt(family: str, deep: bool) -> None:
    layers = sum(n for _, n in STAGES[family])
    assert added(family, type='vpt', number=5, deep=deep)[0] == 5 * STAGES[family][0][0] * (layers if deep else 1)


@pytest.mark.parametrize('family', ['mmdet.Swin', 'mmpretrain.ViT_cls', 'timm.vit'])
def test_ia3(family: str) -> None:
    """Keys, values, and the hidden features: 4 C in Swin and timm's ViT, 2 C in the ViT of tests/families.py."""
    hidden = 2 if family == 'mmpretrain.ViT_cls' else 4
    assert added(family, type='ia3')[0] == sum(n * (2 + hidden) * c for c, n in STAGES[family])


@pytest.mark.parametrize('family', ['mmdet.Swin', 'timm.swin', 'mmpretrain.ViT_cls', 'timm.vit'])
def test_mona(family: str) -> None:
    """Norm and two scales, down, three depth-wise convolutions, a 1x1 one, up: twice in a layer."""
    hidden = 6
    convs = sum(hidden * (k * k + 1) for k in (3, 5, 7)) + hidden * hidden + hidden
    expected = sum(2 * n * (4 * c + c * hidden + hidden + convs + hidden * c + c) for c, n in STAGES[family])
    assert added(family, type='mona', hidden=hidden)[0] == expected


@pytest.mark.parametrize('family', ['mmdet.ResNet', 'timm.vit'])
def test_ladder(family: str) -> None:
    """Prompt blocks, and from each stage to the next two matrices over the hidden width of the first."""
    channels = [c for c, _ in STAGES[family]]
    downs = sum(c * width(c) + width(c) * after for c, after in pairwise(channels))
    assert added(family, type='ladder')[0] == added(family, type='pro')[0] + downs


def test_lora_of_a_vision_transformer() -> None:
    c, mlp, rank, layers = 16, 32, 1, 4
    per_layer = rank * ((c + 3 * c) + (c + c) + (c + mlp) + (mlp + c))  # qkv, projection, and the MLP's two
    assert added('mmpretrain.ViT_cls', type='lora', rank=rank)[0] == layers * per_layer


def test_lora_of_a_residual_network() -> None:
    rank, expected = 1, 0
    inside = 8
    for i, (c, n) in enumerate(STAGES['mmdet.ResNet']):
        for j in range(n):
            first = inside if j == 0 else c
            expected += rank * (9 * first + c) + rank * (9 * c + c)  # A is 3x3, B is 1x1
            if j == 0 and i > 0:
                expected += rank * (first + c)  # the shortcut
        inside = c
    assert added('mmdet.ResNet', type='lora', rank=rank)[0] == expected


def test_dora_adds_a_magnitude_for_each_output_channel_to_lora() -> None:
    outputs = 4 * (3 * 16 + 16 + 32 + 16)  # of qkv, projection, and the MLP's two in four layers
    lora = added('mmpretrain.ViT_cls', type='lora', rank=1)[0]
    assert added('mmpretrain.ViT_cls', type='dora', rank=1)[0] == lora + outputs


def test_rein() -> None:
    c, layers, m, r = 16, 4, 5, 2
    expected = layers * (m * r + r * c) + 2 * (c * c + c)  # T = A B of each layer, and two shared linear layers
    assert added('timm.vit', type='rein', number=m, rank=r)[0] == expected


def test_lora_of_grouped_convolutions_has_the_rank_in_every_group() -> None:
    from protuning_mm.blocks import LowRank

    update = LowRank(nn.Conv2d(8, 16, 3, groups=4), rank=1, scale=1.0)
    # each of 4 groups: 2 channels in, 4 out
    assert sum(p.numel() for p in update.parameters()) == 4 * (9 * 2 + 4)


@pytest.mark.parametrize('family', list(STAGES))
def test_side(family: str) -> None:
    w = 4
    # the stages that the outputs come from
    outs = {'mmseg.ViT': (1, 3), 'mmpretrain.ViT_cls': (3,)}.get(family, (0, 1, 2, 3))
    expected = 3 * 9 * w + w  # stem
    for i, (c, _) in enumerate(STAGES[family]):
        here, there = w * 2**i, w * 2 ** (i + 1)
        expected += 9 * here + here * there + 2 * there  # depth-wise, 1x1, norm
        if i in outs:
            expected += there * c + c + 1  # projection and alpha
    assert added(family, type='side', width=w)[0] == expected


def trainable(tuned: TunedBackbone, keep: Callable[[str], bool]) -> int:
    return sum(p.numel() for key, p in tuned.plain.named_parameters() if keep(key))


def test_partial_is_the_last_blocks() -> None:
    tuned = TunedBackbone(FAMILIES['mmdet.ResNet'], dict(type='partial', k=3))
    expected = trainable(tuned, lambda key: key.startswith(('layer3.1.', 'layer4.')))
    assert sum(p.numel() for p in tuned.parameters() if p.requires_grad) == expected > 0
