"""Folded weights are never stale, whatever changes the weights that they were made of."""

import copy
import gc
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from torch import Tensor, nn

from protuning_mm.frozen import efficient_execution, freeze_efficiently
from tests.plain import fill, plain_resnet, relative_error
from tests.test_frozen.cases import make_block

IMAGE = torch.randn(2, 3, 33, 40, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _folds_however_small_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficient_execution.EfficientBlock, '_pays_to_fold', lambda self, x: True)


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


def write_one_element(net: nn.Module) -> None:
    net.get_submodule('layer3.0.conv2').weight.data[1, 1, 1, 1] += 1


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
    'one element, through .data': write_one_element,
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


WRITES: dict[str, Callable[[Tensor], Any]] = {
    'one filter': lambda w: w[3].mul_(2),
    'the last element': lambda w: w.view(-1)[-1].add_(0.5),
    'a middle element': lambda w: w.view(-1)[w.numel() // 2].add_(0.5),
    'two filters swapped': lambda w: w[2:4].copy_(w[2:4].flip(0).clone()),
    'a small step of one element': lambda w: w[5, 1, 1, 1].mul_(1 + 2**-40),
}


@pytest.mark.parametrize('write', WRITES.values(), ids=WRITES)
@pytest.mark.parametrize('through', ['data', 'numpy'])
def test_every_element_of_a_wide_weight_is_used(write: Callable[[Tensor], Any], through: str) -> None:
    """The right result is that of the block's class, in double precision: a small step shows there."""
    block = fill(make_block('mmdet', 'Bottleneck', 256, 64)).double().eval().requires_grad_(False)
    freeze_efficiently(block)
    x = torch.randn(1, 256, 5, 5, dtype=torch.float64, requires_grad=True)
    before = block(x).detach()
    weight = block.conv2.weight
    write(weight.data if through == 'data' else torch.from_numpy(weight.numpy()))
    folded = block(x).grad_fn.block.branch[1].used_weight()
    scale = (block.bn2.weight / (block.bn2.running_var + block.bn2.eps).sqrt()).view(-1, 1, 1, 1)
    assert relative_error(folded, weight * scale) < 1e-15
    assert relative_error(block(x), type(block).forward(block, x)) < 1e-12
    assert not torch.equal(block(x), before)


def step(net: nn.Module) -> Tensor:
    """The last output of a run with a graph."""
    out: Tensor = net(IMAGE.clone().requires_grad_())[-1]
    return out


def bytes_of_floats() -> int:
    """The bytes of all distinct floating-point storages that exist."""
    gc.collect()
    tensors = (o for o in gc.get_objects() if isinstance(o, Tensor) and o.is_floating_point())
    return sum({s.data_ptr(): s.nbytes() for s in (t.untyped_storage() for t in tensors)}.values())


@pytest.mark.parametrize('layout', ['contiguous', 'channels last', 'another order'])
@pytest.mark.parametrize('dtype', [None, torch.bfloat16])
def test_the_weights_are_in_memory_once(layout: str, dtype: torch.dtype | None) -> None:
    """Neither a run with a graph nor one without leaves a folded or cast weight."""
    net = network(depth=18)
    if layout == 'channels last':
        net.to(memory_format=torch.channels_last)
    elif layout == 'another order':
        for conv in net.modules():
            if isinstance(conv, nn.Conv2d):
                conv.weight.data = conv.weight.data.permute(1, 3, 0, 2).contiguous().permute(2, 0, 3, 1)
    freeze_efficiently(net)
    agree(net)
    before = bytes_of_floats()
    with torch.autocast('cpu', dtype, enabled=dtype is not None):
        with torch.no_grad():
            net(IMAGE)
        assert bytes_of_floats() == before
        out = step(net)
        # the graph keeps the folded norms' factors, a few numbers a channel
        channels = sum(m.num_features for m in net.modules() if isinstance(m, nn.BatchNorm2d))
        widest = max(p.nbytes for p in net.parameters())
        assert bytes_of_floats() - before < 4 * channels * 4 + out.nbytes + 2 * IMAGE.nbytes < 2 * widest


def test_double() -> None:
    net = network()
    freeze_efficiently(net)
    agree(net)
    agree(net.double(), IMAGE.double())


def test_train_and_back() -> None:
    """In training mode the batch norms gather statistics, which are folded afterwards."""
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


def test_a_change_between_forward_and_backward_is_an_error() -> None:
    """As torch's own convolution refuses it."""
    for efficient in (False, True):
        net = network(depth=18)
        if efficient:
            freeze_efficiently(net)
        out = step(net)
        with torch.no_grad():
            net.layer4[1].conv2.weight.zero_()
        with pytest.raises(RuntimeError, match='modified by an inplace operation'):
            out.sum().backward()


def test_a_write_between_forward_and_backward_goes_unnoticed_as_in_torch() -> None:
    gradients = []
    for efficient in (False, True):
        net = network(depth=18)
        if efficient:
            freeze_efficiently(net)
        leaf = IMAGE.clone().requires_grad_()
        out = net(leaf)[-1]
        net.layer4[1].conv2.weight.data.mul_(3)
        (gradient,) = torch.autograd.grad(out.sum(), leaf)
        gradients.append(gradient)
    assert relative_error(gradients[1], gradients[0]) < 1e-4


def test_inference_mode_then_training() -> None:
    """A network that ran in inference mode serves a graph, too."""
    net = network(depth=18)
    freeze_efficiently(net)
    with torch.inference_mode():
        net(IMAGE)
    leaf = IMAGE.clone().requires_grad_()
    net(leaf)[-1].sum().backward()
    assert leaf.grad is not None
    agree(net)
