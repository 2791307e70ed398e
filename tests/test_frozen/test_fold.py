"""Folded weights are never stale, whatever changes the weights that they were made of."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from torch import Tensor, nn

from protuning_mm.frozen import freeze_efficiently, refold
from tests.plain import fill, plain_resnet, relative_error

IMAGE = torch.randn(2, 3, 33, 40, generator=torch.Generator().manual_seed(0))


def network(depth: int = 50, seed: int = 1) -> nn.Module:
    net = plain_resnet(depth=depth)
    fill(net, seed).eval()
    return net.requires_grad_(False)


def agree(efficient: nn.Module, image: Tensor = IMAGE) -> None:
    """The outputs equal those of the classes' own forwards on the same tensors, in both kinds of run."""
    plain = plain_resnet(depth=efficient.depth)
    plain.eval()
    plain.to(next(efficient.parameters()).dtype).load_state_dict(efficient.state_dict())
    with torch.no_grad():
        expected = plain(image)
        got = efficient(image)
    again = efficient(image.clone().requires_grad_())
    for a, b, c in zip(got, again, expected):
        assert relative_error(a, c) < 1e-5 and relative_error(b, c) < 1e-5


def swap_by_data(net: nn.Module) -> None:
    """As EMA does: no version counter sees it."""
    for ours, theirs in zip(net.state_dict().values(), network(seed=2).state_dict().values()):
        ours.data.copy_(theirs.data)


def step_in_place(net: nn.Module) -> None:
    with torch.no_grad():
        for param in net.parameters():
            param.mul_(1.1)


def one_statistic(net: nn.Module) -> None:
    net.layer2[0].bn2.running_mean[3] += 1


def one_statistic_by_data(net: nn.Module) -> None:
    net.layer2[0].bn2.running_mean.data[3] += 1


def new_parameter(net: nn.Module) -> None:
    conv = net.layer1[0].conv1
    conv.weight = nn.Parameter(conv.weight * 2, requires_grad=False)


def new_layer(net: nn.Module) -> None:
    net.layer3[0].conv2 = copy.deepcopy(net.layer3[0].conv2)
    net.layer3[0].conv2.weight.data.mul_(2)


def assigned(net: nn.Module) -> None:
    net.load_state_dict({k: v.clone() for k, v in network(seed=2).state_dict().items()}, assign=True)


def halved_and_back(net: nn.Module) -> None:
    """The values are rounded; the storage may lie where it lay."""
    net.half().float()


CHANGES: dict[str, Callable[[Any], Any]] = {
    'load_state_dict': lambda net: net.load_state_dict(network(seed=2).state_dict()),
    'load_state_dict(assign=True)': assigned,
    'writes through .data': swap_by_data,
    'an optimizer-like step': step_in_place,
    'one statistic': one_statistic,
    'one statistic, through .data': one_statistic_by_data,
    'a new parameter': new_parameter,
    'a new layer': new_layer,
    'half and back': halved_and_back,
}


@pytest.mark.parametrize('change', CHANGES.values(), ids=CHANGES)
def test_after_a_change(change: Callable[[Any], Any]) -> None:
    net = network()
    freeze_efficiently(net)
    agree(net)
    before = net(IMAGE)[-1]
    change(net)
    agree(net)
    assert relative_error(net(IMAGE)[-1], before) > 1e-5


def test_a_single_weight_written_through_data_is_seen_after_refold() -> None:
    """Of a weight a sample is compared; what is written behind torch's back to one element of it needs `refold`."""
    net = network()
    freeze_efficiently(net)
    agree(net)
    net.layer1[0].conv1.weight.data[1, 1] += 1
    refold(net)
    agree(net)


def test_double() -> None:
    net = network()
    freeze_efficiently(net)
    agree(net)
    agree(net.double(), IMAGE.double())


def test_train_and_back() -> None:
    """In training mode the batch norms gather statistics; after it the folded weights know of them."""
    net = network()
    freeze_efficiently(net)
    agree(net)
    net.train()
    net(IMAGE)
    net.eval()
    agree(net)


def test_a_copy_has_its_own() -> None:
    net = network()
    freeze_efficiently(net)
    agree(net)
    other = copy.deepcopy(net)
    swap_by_data(other)
    agree(other)
    agree(net)
    agree(pickle.loads(pickle.dumps(other)))


def test_ema_swaps_weights() -> None:
    """As EMAHook does it: a copy is made before weights are loaded, averages, and is swapped in for validation."""
    net = network()
    freeze_efficiently(net)
    ema = ExponentialMovingAverage(net, momentum=0.5)
    agree(net)
    agree(ema.module)
    net.load_state_dict(network(seed=2).state_dict())
    for _ in range(3):
        ema.update_parameters(net)
        agree(net)
        agree(ema.module)
        step_in_place(net)
    for ours, theirs in zip(net.parameters(), ema.module.parameters()):
        held = ours.data.clone()
        ours.data.copy_(theirs.data)
        theirs.data.copy_(held)
    agree(net)
    agree(ema.module)


def test_gradients_use_the_weights_of_the_forward_pass() -> None:
    """What is written between forward and backward does not reach the gradient."""
    net = network(depth=18)
    plain = copy.deepcopy(net)
    freeze_efficiently(net)
    leaf, other = IMAGE.clone().requires_grad_(), IMAGE.clone().requires_grad_()
    y, expected = net(leaf)[-1], plain(other)[-1]
    for part in net.layer4[1].modules():
        if isinstance(part, nn.Conv2d):
            part.weight.data.zero_()
    y.sum().backward()
    expected.sum().backward()
    assert leaf.grad is not None and other.grad is not None
    assert relative_error(leaf.grad, other.grad) < 1e-4


def test_is_cast_once_under_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    from protuning_mm.frozen import fold

    folds: list[torch.dtype] = []
    plain_fold = fold._fold
    monkeypatch.setattr(fold, '_fold', lambda *args: folds.append(args[-1]) or plain_fold(*args))
    net = network(depth=18)
    freeze_efficiently(net)
    convs = sum(isinstance(part, nn.Conv2d) for part in net.modules())
    for _ in range(3):
        with torch.autocast('cpu', torch.bfloat16), torch.no_grad():
            net(IMAGE)
    assert folds == [torch.bfloat16] * convs
    for _ in range(2):
        net(IMAGE)
    assert len(folds) == 2 * convs


def test_inference_mode_then_training() -> None:
    """What was folded in inference mode serves a graph, too."""
    net = network(depth=18)
    freeze_efficiently(net)
    with torch.inference_mode():
        net(IMAGE)
    leaf = IMAGE.clone().requires_grad_()
    net(leaf)[-1].sum().backward()
    assert leaf.grad is not None
    agree(net)
