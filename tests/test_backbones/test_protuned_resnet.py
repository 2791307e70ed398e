"""ProTunedResNet against the hosts' own ResNets, on the same weights."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from protuning_mm import ProTunedResNet
from tests.plain import (
    HOSTS,
    disturb,
    fill,
    image,
    plain_resnet,
    prompt_by_hand,
    relative_error,
    with_defaults,
)

Weights = Callable[..., str]

VARIANTS: dict[str, dict[str, Any]] = {
    '18': dict(depth=18),
    '50': dict(depth=50),
    'deep_stem (V1c)': dict(depth=50, deep_stem=True),
    'avg_down': dict(depth=50, avg_down=True),
    'V1d': dict(depth=18, deep_stem=True, avg_down=True),
    'caffe': dict(depth=50, style='caffe'),
    'ResNeXt': dict(depth=50, groups=2),
    'dilations': dict(depth=50, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)),
    'strides': dict(depth=18, strides=(2, 1, 2, 1)),
    'with_cp': dict(depth=18, with_cp=True),
    'out_indices': dict(depth=50, out_indices=(0, 2)),
    'one output': dict(depth=18, out_indices=(3,)),
    'three stages': dict(depth=50, num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(0, 1, 2)),
    'wide stem': dict(depth=18, stem_channels=12, base_channels=6),
}
CELLS = [(host, name) for host in HOSTS for name in VARIANTS]
CELLS += [('mmseg', 'contract_dilation'), ('mmseg', 'multi_grid'), ('mmdet', 'plugins')]
VARIANTS |= {
    'contract_dilation': dict(VARIANTS['dilations'], contract_dilation=True),
    'multi_grid': dict(VARIANTS['dilations'], multi_grid=(1, 2, 4)),
    'plugins': dict(
        depth=50,
        plugins=[
            dict(
                cfg=dict(type='ContextBlock', ratio=1 / 4),
                stages=(False, True, True, True),
                position='after_conv3',
            )
        ],
    ),
}


def both(
    weights: Weights, host: str, prompt: dict[str, Any] | None = None, **resnet: Any
) -> tuple[nn.Module, ProTunedResNet]:
    """The host's plain ResNet and ours, both filled from one file."""
    path = weights(host, **resnet)
    plain = plain_resnet(host, **resnet)
    plain.load_state_dict(torch.load(path, weights_only=True))
    plain.eval()  # returns None in mmdet
    tuned = ProTunedResNet(
        host=host,
        prompt=prompt,
        init_cfg=dict(type='Pretrained', checkpoint=path),
        **with_defaults(resnet),
    )
    tuned.init_weights()
    return plain, tuned.train()


def by_hand(plain: nn.Module, prompts: list[dict[str, Tensor]], x: Tensor) -> list[Tensor]:
    """The figure of the method, with the host's layers and functional prompts."""
    x = plain.stem(x) if plain.deep_stem else plain.relu(plain.norm1(plain.conv1(x)))
    x = plain.maxpool(x)
    outs = []
    for name, prompt in zip(plain.res_layers, prompts):
        x = getattr(plain, name)(x)
        x = x + prompt_by_hand(prompt, x)
        outs.append(x)
    return outs


@pytest.mark.parametrize(('host', 'name'), CELLS)
def test_starts_as_the_host_s_plain_resnet(host: str, name: str, weights: Weights) -> None:
    """At its initial values, in train mode too, the outputs are the plain network's (<= 1e-5), odd sizes included."""
    plain, tuned = both(weights, host, **VARIANTS[name])
    for size in ((64, 64), (97, 131)):
        with torch.no_grad():
            expected, got = plain(image(*size)), tuned(image(*size))
        assert isinstance(got, tuple) and len(got) == len(expected)
        for e, g in zip(expected, got):
            assert e.shape == g.shape and e.abs().max() > 1e-3
            assert relative_error(g, e) <= 1e-5


@pytest.mark.parametrize('name', ['18', 'V1d', 'ResNeXt', 'dilations', 'three stages'])
@pytest.mark.parametrize('host', HOSTS)
def test_whole_forward_by_hand(host: str, name: str, weights: Weights) -> None:
    """With prompts that are not the identity: blended features are the outputs and feed the next stage."""
    plain, tuned = both(weights, host, **VARIANTS[name])
    disturb(tuned.prompts)
    with torch.no_grad():
        expected = by_hand(plain, [p.state_dict() for p in tuned.prompts], image(97, 131))
        got, untouched = tuned(image(97, 131)), plain(image(97, 131))
    for g, e, u in zip(got, expected, untouched):
        assert relative_error(g, e) <= 1e-5
        assert relative_error(g, u) > 1e-2  # the prompts do matter here


@pytest.mark.parametrize('host', HOSTS)
def test_stages_and_prompts(host: str, weights: Weights) -> None:
    """.stages call the four frozen stages, .prompts are four prompt blocks; both hold the network's own modules."""
    plain, tuned = both(weights, host, depth=18)
    assert [type(part) for s in tuned.stages for part in s.children()] == [
        type(getattr(plain, n)) for n in plain.res_layers
    ]
    assert len(tuned.stages) == len(tuned.prompts) == 4
    x = image()
    with torch.no_grad():
        seen = tuned.stages[0](tuned.maxpool(tuned.relu(tuned.bn1(tuned.conv1(x)))))
        torch.testing.assert_close(seen, tuned(x)[0])  # the network folds its stem, layers by themselves do not
    assert {p for s in tuned.stages for p in s.parameters()} <= set(tuned.parameters())
    assert not any(key.startswith(('stages', 'plain', 'stem')) for key in tuned.state_dict())


@pytest.mark.parametrize('disturbed', range(4))
def test_blended_feature_feeds_the_next_stage(disturbed: int, weights: Weights) -> None:
    """Disturbing prompt i changes the outputs from i on, and none before."""
    _, tuned = both(weights, 'mmdet', depth=18)
    with torch.no_grad():
        before = tuned(image())
        disturb(tuned.prompts[disturbed])
        after = tuned(image())
    changed = [not torch.equal(b, a) for b, a in zip(before, after)]
    assert changed == [i >= disturbed for i in range(4)]


def test_loss_on_the_last_output_trains_the_first_prompt(weights: Weights) -> None:
    _, tuned = both(weights, 'mmdet', depth=18, prompt=dict(init='random'))
    tuned(image())[-1].square().mean().backward()
    for i, prompt in enumerate(tuned.prompts):
        for name, param in prompt.named_parameters():
            assert param.grad is not None and param.grad.any(), f'prompts.{i}.{name}'
    assert all(p.grad is None for s in tuned.stages for p in s.parameters())


@pytest.mark.parametrize('init', ['zero_conv', 'zero_scale'])
def test_every_prompt_parameter_learns_by_the_second_step(init: str, weights: Weights) -> None:
    _, tuned = both(weights, 'mmseg', depth=50, prompt=dict(init=init))
    trained = {n: p for n, p in tuned.named_parameters() if p.requires_grad}
    assert trained and all(name.startswith('prompts.') for name in trained)
    optimizer = torch.optim.SGD(trained.values(), lr=0.1)
    moved = set()
    for _ in range(2):
        optimizer.zero_grad()
        sum((out - 1).square().mean() for out in tuned(image())).backward()
        moved |= {name for name, p in trained.items() if p.grad.any()}
        optimizer.step()
    assert moved == set(trained)


def test_with_cp_gives_the_same_gradients(weights: Weights) -> None:
    """Checkpointing inside the frozen stages changes memory, not numbers."""
    grads = []
    for with_cp in (False, True):
        _, tuned = both(weights, 'mmdet', depth=18, with_cp=with_cp, prompt=dict(init='random'))
        disturb(tuned.prompts)
        tuned(image())[-1].square().mean().backward()
        grads.append([p.grad for p in tuned.prompts.parameters()])
    for plain, checkpointed in zip(*grads):
        assert plain.any() and relative_error(checkpointed, plain) < 1e-5


def test_deformable_convolutions_build_and_run(weights: Weights) -> None:
    """mmdet's dcn, with gradients through it to the first prompt."""
    pytest.importorskip('mmcv.ops', reason='mmcv was built without its operators')
    dcn = dict(type='DCN', deform_groups=1, fallback_on_stride=False)
    plain, tuned = both(weights, 'mmdet', depth=50, dcn=dcn, stage_with_dcn=(False, True, True, True))
    assert any('conv_offset' in key for key in tuned.plain_tensors())
    for net in (plain, tuned):  # random offsets of many pixels would amplify any rounding from block to block
        for key, tensor in net.state_dict().items():
            if 'conv_offset' in key:
                tensor.mul_(0.01)
    x = image(128, 128)
    got = tuned(x)
    for g, e in zip(got, plain(x)):
        assert relative_error(g, e) <= 1e-5
    got[-1].square().mean().backward()
    assert tuned.prompts[0].expand.weight.grad.any()


def test_prompt_stages() -> None:
    """Only the stages that prompt_stages names get a prompt, and only those change."""
    tuned = ProTunedResNet(depth=18, host='mmdet', prompt_stages=(1, 3), **with_defaults({}))
    assert [p is not None for p in tuned.prompts] == [False, True, False, True]
    fill(tuned)
    plain = plain_resnet(depth=18)
    plain.load_state_dict({k: v for k, v in tuned.state_dict().items() if 'prompts' not in k})
    plain.eval()
    with torch.no_grad():
        apart = [relative_error(g, e) for g, e in zip(tuned.train()(image()), plain(image()))]
    assert apart[0] <= 1e-5 and min(apart[1:]) > 1e-2
    none = ProTunedResNet(depth=18, host='mmdet', prompt_stages=(), **with_defaults({}))
    assert not [p for p in none.parameters() if p.requires_grad]


def test_no_prompt_after_the_last_output() -> None:
    """A prompt that nothing reads would have no gradient: DDP would stumble over it."""
    tuned = ProTunedResNet(depth=18, host='mmdet', **with_defaults(dict(out_indices=(0, 1))))
    assert len(tuned.prompts) == 2
    sum(out.mean() for out in tuned(image())).backward()
    assert all(p.grad is not None for p in tuned.prompts.parameters())


def test_host_s_freezing_arguments_have_no_effect(weights: Weights) -> None:
    """frozen_stages and norm_eval of an inherited config are accepted and kept for the start table."""
    path = weights('mmdet', depth=18)
    tuned = ProTunedResNet(
        host='mmdet',
        frozen_stages=1,
        norm_eval=False,
        init_cfg=dict(type='Pretrained', checkpoint=path),
        **with_defaults(dict(depth=18)),
    )
    assert tuned.ignored_args == dict(frozen_stages=1, norm_eval=False)
    assert not any(m.training for stage in tuned.train().stages for m in stage.modules())


@pytest.mark.parametrize('host', HOSTS)
def test_has_the_attributes_that_users_of_the_host_s_class_read(host: str) -> None:
    settings = dict(depth=50, host=host, **with_defaults(dict(out_indices=(0, 2))))
    tuned, plain = ProTunedResNet(**settings, frozen_stages=2), plain_resnet(host, depth=50, out_indices=(0, 2))
    for name in ('depth', 'num_stages', 'out_indices', 'feat_dim', 'res_layers', 'deep_stem', 'style', 'arch_settings'):
        assert getattr(tuned, name) == getattr(plain, name), name
    for name in ('conv1', 'norm1', 'maxpool', 'layer1', 'layer4'):
        assert isinstance(getattr(tuned, name), type(getattr(plain, name))), name
    assert tuned.layer2 is tuned.plain.layer2
    assert tuned.frozen_stages == -1 and isinstance(tuned.norm_eval, bool)
    with pytest.raises(AttributeError, match='no_such'):
        _ = tuned.no_such


@pytest.mark.parametrize(
    ('wrong', 'named'),
    [
        (dict(prompt_stages=(0, 4)), r'prompt_stages=\(0, 4\).*0 to 3'),
        (dict(prompt_stages=(-1,)), r'prompt_stages=\(-1,\)'),
        (dict(prompt_stages=(1, 1)), r'prompt_stages=\(1, 1\)'),
        (dict(prompt_stages=3), 'prompt_stages=3'),
        (dict(prompt_stages='all'), 'prompt_stages=all'),
        (dict(prompt_stages=(3,), out_indices=(0, 1)), r'prompt_stages=\(3,\).*0 to 1.*up to its last output'),
        (dict(out_indices=(0, 4)), r'out_indices=\(0, 4\).*0 to 3'),
        (dict(out_indices=(-1,)), r'out_indices=\(-1,\)'),
        (dict(num_stages=3, out_indices=(3,)), r'out_indices=\(3,\).*3 stages'),
        (dict(host='timm'), "host='timm'.*mmdet"),
        (dict(prompt=dict(kernel_size=4)), 'kernel_size=4'),
        (dict(prompt=dict(ratio=-1)), 'ratio=-1'),
        (dict(prompt=dict(norm_cfg=dict(type='XN'))), "'XN'"),
        (
            dict(pretrained='a.pth', init_cfg=dict(type='Pretrained', checkpoint='b.pth')),
            "pretrained='a.pth' and init_cfg=.*b.pth.*keep one",
        ),
    ],
)
def test_refuses_and_names_what_was_written(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        ProTunedResNet(**{**with_defaults(dict(depth=18, host='mmdet')), **wrong})


@pytest.mark.slow
@pytest.mark.parametrize('depth', [34, 101, 152])
@pytest.mark.parametrize('host', HOSTS)
def test_other_depths(host: str, depth: int, weights: Weights) -> None:
    plain, tuned = both(weights, host, depth=depth)
    with torch.no_grad():
        for e, g in zip(plain(image(97, 131)), tuned(image(97, 131))):
            assert relative_error(g, e) <= 1e-5


@pytest.mark.parametrize('depth', [50, 101])
def test_published_budget_at_full_width(depth: int) -> None:
    """Four prompts of a ResNet-50 or -101 hold 3.614 M ± 1 %; the rest is frozen."""
    tuned = ProTunedResNet(depth=depth, host='mmdet')
    trained = sum(p.numel() for p in tuned.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in tuned.parameters() if not p.requires_grad)
    assert trained == pytest.approx(3.614e6, rel=0.01)
    # torchvision's ResNets without their classifiers of 2048 x 1000 + 1000
    assert frozen == {50: 25557032, 101: 44549160}[depth] - 2049000
