"""A backbone returns for frozen features what it returns for their images: every family, any frozen part."""

import copy
from typing import Any

import pytest
import torch

from protuning_mm import TunedBackbone, TuningError
from protuning_mm.backbones.frozen_features import FrozenFeatures
from protuning_mm.backbones.frozen_outputs import FrozenOutputs
from protuning_mm.backbones.frozen_part import find_frozen_part
from protuning_mm.backbones.frozen_stages import FrozenStages
from tests.families import FAMILIES, TUNING_CFGS, flat, images

TUNINGS: dict[str, Any] = dict(
    linear='linear',
    ladder='ladder',
    late=dict(type='pro', prompt_stages=(3,)),
    middle=dict(type='pro', prompt_stages=(1, 3)),
    partial=dict(type='partial', k=1),
)
LAST = dict(late=3, middle=1, partial=2)  # index of the last frozen stage


def tuned(family: str, tuning: Any, **kwargs: Any) -> Any:
    """A backbone in training mode whose trained parameters are not the initial ones."""
    net = TunedBackbone(FAMILIES[family], tuning, allow_random_backbone=True, **kwargs)
    net.init_weights()
    for param in net.parameters():
        if param.requires_grad:
            param.data += 0.1 * torch.randn_like(param)
    return net.train()


def gradients(net: Any, x: Any) -> tuple[list[Any], list[Any]]:
    """Outputs, and the gradients of the trained parameters."""
    outs = flat(net(x))
    params = [param for param in net.parameters() if param.requires_grad]
    if not params:
        return outs, []
    total = sum((out * torch.linspace(0.5, 1.5, out.numel()).view(out.shape)).sum() for out in outs)
    return outs, list(torch.autograd.grad(total, params, allow_unused=True))


def same(ones: list[Any], others: list[Any]) -> bool:
    pairs = zip(ones, others, strict=True)
    return all(other is None if one is None else torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize('tuning', TUNINGS)
@pytest.mark.parametrize('family', FAMILIES)
def test_outputs_and_gradients(family: str, tuning: str) -> None:
    """Bit for bit; also for other images than those of the search, for fewer, and on a copy of the backbone."""
    net = tuned(family, TUNINGS[tuning])
    part = find_frozen_part(net, images(family))
    assert isinstance(part, FrozenStages if tuning in LAST else FrozenOutputs)
    assert not isinstance(part, FrozenStages) or part.last == LAST[tuning]
    x = images(family, batch=3).flip(3)
    features = FrozenFeatures(part, part.compute(net, x))
    expected = gradients(net, x)
    assert not any(tensor.requires_grad for tensor in features.tensors)
    for one, other in zip(expected, gradients(net, features)):
        assert same(one, other)
    for one, other in zip(expected, gradients(copy.deepcopy(net), features)):
        assert same(one, other)
    assert [out.shape[1:] for out in flat(net(x[:1]))] == [
        out.shape[1:] for out in flat(net(FrozenFeatures(part, [tensor[:1] for tensor in features.tensors])))
    ]


@pytest.mark.parametrize('family', FAMILIES)
def test_frozen_stages_do_not_run(family: str) -> None:
    """Their weights are NaN when the features are used."""
    for tuning in ('linear', 'late', 'middle'):
        net = tuned(family, TUNINGS[tuning])
        x = images(family)
        part = find_frozen_part(net, x)
        features = FrozenFeatures(part, part.compute(net, x))
        expected = flat(net(x))
        stages = net.structure.stages[: LAST.get(tuning, 3) + 1]
        modules = [net.plain.get_submodule(path) for stage in stages for path in stage.modules]
        for module in [net.plain] if tuning == 'linear' else modules:
            for param in module.parameters():
                if not param.requires_grad:
                    param.data.fill_(float('nan'))
        assert not any(out.isfinite().all() for out in flat(net(x)))
        assert same(flat(net(features)), expected)


@pytest.mark.parametrize('mode', [False, 'exact', 'int8', 'recompute'])
@pytest.mark.parametrize('family', ['mmdet.ResNet50', 'timm.vit', 'mmpretrain.Swin', 'timm.convnext'])
def test_every_mode_of_frozen_execution(family: str, mode: Any) -> None:
    for tuning in ('late', 'middle', 'partial'):
        net = tuned(family, TUNINGS[tuning], efficient_frozen=mode)
        x = images(family)
        part = find_frozen_part(net, x)
        for one, other in zip(gradients(net, x), gradients(net, FrozenFeatures(part, part.compute(net, x)))):
            assert same(one, other)


def test_modules_run_as_before_afterwards() -> None:
    """Also after an error within."""
    net = tuned('mmdet.ResNet', TUNINGS['middle'])
    x = images('mmdet.ResNet')
    net(x)
    part = find_frozen_part(net, x)
    before = [(dict(vars(module)), dict(module._forward_hooks)) for module in net.modules()]
    features = FrozenFeatures(part, part.compute(net, x))
    net(features)
    with pytest.raises(RuntimeError):
        net(FrozenFeatures(part, [tensor[:, :1] for tensor in features.tensors]))
    after = [(dict(vars(module)), dict(module._forward_hooks)) for module in net.modules()]
    assert [names.keys() for names, _ in before] == [names.keys() for names, _ in after]
    assert [hooks for _, hooks in before] == [hooks for _, hooks in after]
    assert [names.get('forward') for names, _ in before] == [names.get('forward') for names, _ in after]


def test_a_feature_that_the_next_stage_overwrites() -> None:
    """The features are those at the end of their stage, and a tuned network reads them there."""
    net = tuned('mmdet.ResNet', TUNINGS['late'])
    net.plain.layer3.register_forward_pre_hook(lambda module, args: (args[0].mul_(2),))
    x = images('mmdet.ResNet')
    part = find_frozen_part(net, x)
    names = dict(zip(part.names, part.compute(net, x)))
    undoubled = tuned('mmdet.ResNet', TUNINGS['late'])
    undoubled.load_state_dict(net.state_dict())
    assert torch.equal(names['stage2'], undoubled.plain(x)[1])


@pytest.mark.parametrize('tuning', ['lora', 'bias', 'norm', 'conv_adapter', 'ssf', 'pro, bias'])
def test_trained_from_the_first_stage_on(tuning: str) -> None:
    message = 'trained parameters take part before the end of the first stage'
    with pytest.raises(TuningError, match=message):
        find_frozen_part(tuned('mmdet.ResNet', TUNING_CFGS[tuning]), images('mmdet.ResNet'))


def test_training_mode() -> None:
    net = tuned('mmdet.ResNet', 'full')
    with pytest.raises(TuningError, match='full: the backbone is in training mode'):
        find_frozen_part(net, images('mmdet.ResNet'))
    net = tuned('mmdet.ResNet', 'linear')
    net.plain.layer2.train()
    with pytest.raises(TuningError, match='linear: layer2 is in training mode'):
        find_frozen_part(net, images('mmdet.ResNet'))


def test_stages_side_by_side() -> None:
    """HRNet's branches exchange features: its outputs can be stored, not the features between its stages."""
    extra = {
        f'stage{i}': dict(
            num_modules=1, num_branches=i, block='BOTTLENECK' if i == 1 else 'BASIC', num_blocks=(1,) * i,
            num_channels=(4, 8, 16, 32)[:i],
        )
        for i in range(1, 5)
    }  # fmt: skip
    x = images('mmdet.ResNet')
    cfg = dict(type='mmdet.HRNet', extra=extra)
    net = TunedBackbone(cfg, 'linear', allow_random_backbone=True).train()
    part = find_frozen_part(net, x)
    assert same(flat(net(FrozenFeatures(part, part.compute(net, x)))), flat(net(x)))
    net = TunedBackbone(cfg, dict(type='pro', prompt_stages=(3,)), allow_random_backbone=True).train()
    with pytest.raises(TuningError, match="do not run one after the other.*'linear' and 'ladder' alone"):
        find_frozen_part(net, x)
