"""Readings of the prompt block: their counts, and the table of docs/prompt_block.md."""

import timm
import torch

from protuning_lab.prompt_readings import NETWORKS, GroupedPromptBlock, count_trained, table
from tests.mini import REPO


def test_docs_show_the_counted_table() -> None:
    assert table() in (REPO / 'docs/prompt_block.md').read_text()


def test_networks_are_timm_s() -> None:
    """Parameters without head, and the head's input, as timm's own networks have them."""
    names = {'ResNet-101': 'resnet101', 'DeiT-B': 'deit_base_patch16_224', 'DeiT-S': 'deit_small_patch16_224'}
    for name, (_, width, parameters) in NETWORKS.items():
        with torch.device('meta'):
            network = timm.create_model(names[name], num_classes=0)
        assert (network.num_features, sum(p.numel() for p in network.parameters())) == (width, parameters)


def test_grouped_reading_by_hand() -> None:
    """C = 32: two grouped 1x1 convolutions, a 5x5 depth-wise one, a squeeze-excite of 2 channels, a scalar."""
    block = GroupedPromptBlock(32)
    by_hand = 2 * (32 * 8 + 32) + (32 * 25 + 32) + (32 * 2 + 2) + (2 * 32 + 32) + 1
    assert sum(p.numel() for p in block.parameters()) == by_hand
    x = torch.randn(2, 32, 7, 9)
    prompt = block(x)
    assert prompt.shape == x.shape and not prompt.any()
    prompt.sum().backward()
    assert block.scale.grad is not None and block.scale.grad != 0


def test_the_published_resnet_count() -> None:
    """3.86 M, within 0.6 %, by the grouped reading with and without norms."""
    for reading in (GroupedPromptBlock, lambda channels: GroupedPromptBlock(channels, norms=True)):
        assert abs(count_trained(reading, 'ResNet-101')[0] / 3.86e6 - 1) < 0.006
