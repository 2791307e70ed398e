"""Many threads in one network: each gets what it would get alone, bit for bit."""

import copy
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from protuning_mm.backbones import TunedBackbone
from tests.families import FAMILIES, flat
from tests.plain import fill

THREADS = 4
IMAGES = [torch.randn(1, 3, 40 + 8 * i, 64, generator=torch.Generator().manual_seed(i)) for i in range(THREADS)]


@pytest.fixture
def busy() -> Iterator[None]:
    """Threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def evaluate(net: nn.Module, image: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return flat(net(image))


def differentiate(net: nn.Module, image: Tensor) -> list[Tensor]:
    """Outputs, and gradients of the image and of every trained parameter."""
    image = image.clone().requires_grad_()
    outs = flat(net(image))
    leaves = [image, *(param for param in net.parameters() if param.requires_grad)]
    loss = sum(out.square().mean() for out in outs)
    assert isinstance(loss, Tensor)
    return [*outs, *torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)]


def train(net: nn.Module, image: Tensor) -> list[Tensor]:
    """The image takes no gradient: stems are folded."""
    leaves = [param for param in net.parameters() if param.requires_grad]
    outs = flat(net(image))
    loss = sum(out.square().mean() for out in outs)
    assert isinstance(loss, Tensor)
    return [*outs, *torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)]


@pytest.mark.usefixtures('busy')
@pytest.mark.parametrize('run', [evaluate, differentiate, train])
@pytest.mark.parametrize('family', ['mmdet.ResNet', 'mmseg.ResNetV1c', 'mmpretrain.ResNetV1d', 'mmdet.Swin'])
def test_each_thread_gets_what_it_would_get_alone(family: str, run: Any) -> None:
    net = fill(TunedBackbone(FAMILIES[family], 'pro', allow_random_backbone=True)).eval()
    alone = copy.deepcopy(net)
    expected = [run(alone, image) for image in IMAGES]
    for round_ in range(2):
        start = threading.Barrier(THREADS)

        def work(i: int, start: threading.Barrier = start) -> list[list[Tensor]]:
            start.wait()
            return [run(net, IMAGES[i]) for _ in range(2)]

        with ThreadPoolExecutor(THREADS) as pool:
            for i, found in enumerate(pool.map(work, range(THREADS))):
                for results in found:
                    assert len(results) == len(expected[i])
                    different = [n for n, (a, b) in enumerate(zip(results, expected[i])) if not torch.equal(a, b)]
                    assert not different, f'thread {i}, round {round_}: results {different}'


@pytest.mark.usefixtures('busy')
def test_a_stem_s_layers_in_other_threads() -> None:
    """One thread runs the network, others its first layers by themselves."""
    net = fill(TunedBackbone(FAMILIES['mmdet.ResNet'], 'pro', allow_random_backbone=True)).eval()
    alone = copy.deepcopy(net)
    conv, norm = net.plain.conv1, net.plain.norm1
    with torch.no_grad():
        first = nn.functional.conv2d(IMAGES[0], conv.weight, None, conv.stride, conv.padding)
        second = nn.functional.batch_norm(
            first, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
        )
    expected = evaluate(alone, IMAGES[0])

    def work(i: int) -> bool:
        with torch.no_grad():
            if i % 3 == 0:
                return all(torch.equal(a, b) for a, b in zip(evaluate(net, IMAGES[0]), expected))
            if i % 3 == 1:
                return torch.equal(net.plain.conv1(IMAGES[0]), first)
            return torch.equal(net.plain.norm1(first), second)

    with ThreadPoolExecutor(THREADS) as pool:
        assert all(pool.map(work, range(300)))
