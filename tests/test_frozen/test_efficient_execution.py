"""What is taken over, what is not and why; and nothing but the way of running changes."""

import copy
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from protuning_mm.frozen import freeze_efficiently, release, report
from tests.plain import fill, plain_resnet, relative_error
from tests.test_frozen.cases import make_block, output_and_grad

IMAGE = torch.randn(2, 3, 33, 40, generator=torch.Generator().manual_seed(0))


def bottleneck(**kwargs: Any) -> nn.Module:
    return fill(make_block('mmdet', 'Bottleneck', 32, 8, **kwargs)).eval().requires_grad_(False)


def subclass() -> nn.Module:
    block = bottleneck()

    class Mine(type(block)):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * 2

    block.__class__ = Mine
    return block


def changed(change: Callable[[Any], Any]) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        block = bottleneck()
        change(block)
        return block

    return build


def pad_by_reflection(block: Any) -> None:
    block.conv2.padding_mode = 'reflect'


def pad_same(block: Any) -> None:
    block.conv2.padding = 'same'


class DeformableConv(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).roll(1, -1)


def deform(block: Any) -> None:
    block.conv2.__class__ = DeformableConv


def no_statistics(block: Any) -> None:
    block.bn2 = nn.BatchNorm2d(8, track_running_stats=False).eval().requires_grad_(False)


def other_norm(block: Any) -> None:
    setattr(block, block.norm2_name, nn.GroupNorm(2, 8).requires_grad_(False))


def replaced_forward(block: Any) -> None:
    block.conv2.forward = lambda x: nn.Conv2d.forward(block.conv2, x) * 2


def with_plugin(block: Any) -> None:
    block.with_plugins = True
    block.after_conv1_plugin_names, block.after_conv2_plugin_names = ['scale'], []
    block.after_conv3_plugin_names = []
    block.scale = nn.Hardtanh(0, 0.5)


LEFT: dict[str, tuple[Callable[[], nn.Module], str]] = {
    'padding_mode': (changed(pad_by_reflection), "padding_mode='reflect'"),
    'padding=same': (changed(pad_same), "padding='same'"),
    'deformable convolution': (changed(deform), 'DeformableConv is not an exact Conv2d'),
    'norm in training mode': (changed(lambda b: b.norm2.train()), 'a batch norm is in training mode'),
    'norm without statistics': (changed(no_statistics), 'a batch norm has no running statistics'),
    'another norm': (changed(other_norm), 'GroupNorm is not an exact batch norm'),
    'trained inside': (changed(lambda b: b.norm2.weight.requires_grad_()), 'parameters of bn2 are trained'),
    'hook inside': (
        changed(lambda b: b.conv2.register_forward_hook(lambda module, args, y: y * 2)),
        'conv2 has hooks',
    ),
    'forward hook before': (
        changed(lambda b: b.conv2.register_forward_pre_hook(lambda module, args: (args[0] * 2,))),
        'conv2 has hooks',
    ),
    'forward replaced': (changed(replaced_forward), 'the forward of conv2 was replaced'),
    'plugin': (changed(with_plugin), 'scale is a torch.nn.modules.activation.Hardtanh, which is not supported'),
    'another activation': (
        changed(lambda b: setattr(b, 'relu', nn.ELU())),
        'relu is a torch.nn.modules.activation.ELU',
    ),
    'another shortcut': (
        changed(lambda b: setattr(b, 'downsample', nn.Sequential(nn.Dropout(), nn.Dropout(), nn.Hardtanh()).eval())),
        'downsample is (Dropout, Dropout, Hardtanh)',
    ),
}


@pytest.mark.parametrize(('build', 'why'), LEFT.values(), ids=LEFT)
@pytest.mark.parametrize('when', ['before', 'after'])
def test_plain_path_and_why(build: Callable[[], nn.Module], why: str, when: str) -> None:
    """Whether a block is unusual when it is taken over, or becomes so later: the result is the class's own."""
    unusual = build()
    taken = copy.deepcopy(unusual) if when == 'before' else bottleneck()
    freeze_efficiently(taken)
    if when == 'after':
        forward = taken.__dict__['forward']
        taken.__dict__.clear()
        taken.__dict__ |= unusual.__dict__ | dict(forward=forward)
    x = torch.randn(2, 32, 9, 10).double()
    if 'replaced' not in why:  # a closure over its own layer
        for a, b in zip(output_and_grad(taken.double(), x), output_and_grad(build().double(), x)):
            assert relative_error(a, b) < 1e-12
    found = report(taken)
    assert '' not in found.efficient and why in found.fallback['']
    assert why in str(found)


def test_subclass_is_not_known() -> None:
    block = subclass()
    found = freeze_efficiently(block)
    assert set(found.efficient.values()) == {'Conv2d', 'BatchNorm2d', 'ReLU'} and not found.fallback
    assert 'forward' not in block.__dict__


@pytest.mark.parametrize(
    ('host', 'settings', 'blocks', 'stem'),
    [
        ('mmdet', dict(depth=18), 8, 1),
        ('mmseg', dict(depth=50, deep_stem=True), 16, 3),
        ('mmpretrain', dict(depth=50, deep_stem=True, avg_down=True), 16, 3),
        ('mmdet', dict(depth=50, groups=2, base_width=4), 16, 1),
        ('mmdet', dict(depth=34, style='caffe', dilations=(1, 1, 2, 4), strides=(1, 2, 1, 1)), 16, 1),
    ],
)
def test_a_host_network_is_taken_over_whole(host: str, settings: dict[str, Any], blocks: int, stem: int) -> None:
    net = fill(plain_resnet(host, **settings)).requires_grad_(False)
    net.eval()
    plain = copy.deepcopy(net)
    found = freeze_efficiently(net)
    assert not found.fallback and not found.other
    assert len(found.efficient) == blocks + 2 * stem  # convolutions and ReLUs of the stem
    assert sorted(set(found.efficient.values())) == sorted(
        {'Conv2d', 'ReLU', 'BasicBlock' if settings['depth'] < 50 else 'Bottleneck'}
    )
    for shape in ((2, 3, 33, 40), (1, 3, 97, 131)):
        image = torch.randn(shape)
        for a, b in zip(net(image), plain(image)):
            assert relative_error(a, b) < 1e-5
            assert a.grad_fn is None
        first, second = image.clone().requires_grad_(), image.clone().requires_grad_()
        for a, b in zip(net(first), plain(second)):  # a gradient of the image: the stem takes the plain path
            assert relative_error(a, b) < 1e-5 and a.grad_fn is not None


def test_dcn_is_left() -> None:
    """A deformable convolution in a stage of the host's own."""
    net = plain_resnet(depth=50, dcn=dict(type='DCN', deform_groups=1), stage_with_dcn=(False, False, False, True))
    net.eval()
    found = freeze_efficiently(net.requires_grad_(False))
    assert sorted(found.fallback) == ['layer4.0', 'layer4.1', 'layer4.2']
    assert all('DeformConv2dPack is not an exact Conv2d' in why for why in found.fallback.values())
    assert sum(kind == 'Bottleneck' for kind in found.efficient.values()) == 13


def test_names_tensors_and_classes_stay() -> None:
    net = plain_resnet(depth=18)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    types = [type(part) for part in net.modules()]
    freeze_efficiently(net)
    net.eval()
    net.requires_grad_(False)(IMAGE)
    assert [type(part) for part in net.modules()] == types
    after = net.state_dict()
    assert list(after) == list(before) and all(torch.equal(after[k], before[k]) for k in before)
    release(net)
    assert not any('forward' in part.__dict__ for part in net.modules())


def test_stem_whose_norm_is_replaced() -> None:
    """As a runner does with SyncBN: the new norm's work is done, whatever it is."""
    others = [
        copy.deepcopy(fill(nn.BatchNorm2d(4), seed=3)).eval().requires_grad_(False),
        fill(nn.GroupNorm(2, 4)).requires_grad_(False),
        fill(nn.BatchNorm2d(4), seed=3).train().requires_grad_(False),
    ]
    for other in others:
        net = fill(plain_resnet(depth=18)).requires_grad_(False)
        net.eval()
        freeze_efficiently(net)
        net(IMAGE)
        setattr(net, net.norm1_name, other)
        plain = copy.deepcopy(net)
        release(plain)
        for a, b in zip(net(IMAGE), plain(IMAGE)):
            assert relative_error(a, b) < 1e-5


@pytest.mark.parametrize(
    ('host', 'settings', 'stem'),
    [
        ('mmdet', {}, [('conv1', 'bn1')]),
        ('mmseg', dict(deep_stem=True), [('stem.0', 'stem.1'), ('stem.3', 'stem.4'), ('stem.6', 'stem.7')]),
        ('mmpretrain', dict(deep_stem=True), [(f'stem.{i}.conv', f'stem.{i}.bn') for i in range(3)]),
    ],
)
def test_stem_whose_layers_are_used_alone(host: str, settings: dict[str, Any], stem: list[tuple[str, str]]) -> None:
    """A layer called by itself returns torch's own result, before, after and between calls of the network."""
    net = fill(plain_resnet(host, depth=18, **settings)).requires_grad_(False)
    net.eval()
    plain = copy.deepcopy(net)
    freeze_efficiently(net)
    for conv, norm in stem:
        x = torch.randn(2, net.get_submodule(conv).in_channels, 9, 9)
        y = plain.get_submodule(conv)(x)
        z = plain.get_submodule(norm)(y)
        for _ in range(2):
            got = net.get_submodule(conv)(x)
            assert torch.equal(got, y)
            assert torch.equal(net.get_submodule(norm)(got), z) and torch.equal(got, y)
            assert torch.equal(net.get_submodule(norm)(y), z)
            assert relative_error(net(IMAGE)[-1], plain(IMAGE)[-1]) < 1e-5
        alone = copy.deepcopy(net.get_submodule(conv))
        gc.collect()
        assert torch.equal(alone(x), y)


def test_a_norm_changed_between_the_stem_s_layers() -> None:
    net = fill(plain_resnet(depth=18)).requires_grad_(False)
    net.eval()
    freeze_efficiently(net)
    y = net.conv1(IMAGE)
    with torch.no_grad():
        net.norm1.weight.mul_(2)
    expected = nn.functional.batch_norm(
        y, net.norm1.running_mean, net.norm1.running_var, net.norm1.weight, net.norm1.bias, eps=net.norm1.eps
    )
    assert torch.equal(net.norm1(y), expected)


@pytest.mark.parametrize(('host', 'settings'), [('mmdet', {}), ('mmseg', dict(deep_stem=True))])
def test_stem_makes_no_map_for_its_norms(host: str, settings: dict[str, Any]) -> None:
    """A norm that is folded is not run."""
    net = fill(plain_resnet(host, depth=18, **settings)).requires_grad_(False)
    net.eval()
    freeze_efficiently(net)
    net.res_layers = []  # the stem alone
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        net(IMAGE)
    assert not [event.name for event in profiler.events() if 'batch_norm' in event.name]


def test_a_network_is_freed_without_the_garbage_collector() -> None:
    net = plain_resnet(depth=18)
    freeze_efficiently(net.requires_grad_(False))
    net.eval()
    net(IMAGE)
    parts = [weakref.ref(net.layer1[0]), weakref.ref(net.conv1)]
    gc.disable()
    try:
        del net
        assert [part() for part in parts] == [None, None]
    finally:
        gc.enable()


def test_again_and_on_a_part() -> None:
    net = plain_resnet(depth=18).requires_grad_(False)
    net.eval()
    freeze_efficiently(net)
    found = freeze_efficiently(net)
    assert len(found.efficient) == 10  # the stem's convolution and ReLU, and 8 blocks
    release(net.layer2)
    assert len(report(net).efficient) == 8
    assert len(freeze_efficiently(net.layer2).efficient) == 2


def test_a_small_image_s_blocks_are_one_node_each_and_not_folded() -> None:
    """Where a block has more weights than its maps have elements, folding would cost more than the norms."""
    net = plain_resnet(depth=18, base_channels=32)
    fill(net).eval()
    net.requires_grad_(False)
    plain = copy.deepcopy(net)
    freeze_efficiently(net)
    image = torch.randn(1, 3, 128, 128)
    results = [network(image.clone().requires_grad_()) for network in (net, plain)]
    folded = [[conv.scale is not None for conv in out.grad_fn.block.convs()] for out in results[0]]
    assert folded[0] == [True, True] and folded[-1] == [False, False]
    for ours, expected in zip(*results):
        assert ours.grad_fn.name() == 'ResidualBlockBackward'
        assert relative_error(ours, expected) < 1e-5
