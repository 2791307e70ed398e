"""Frozen means bit-identical, whatever a training run does to a model."""

import copy
import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from mmengine.runner import load_checkpoint
from torch import Tensor, nn

from protuning_mm import ProTunedResNet, TunedBackbone
from protuning_mm.backbones.hosts import build_plain
from tests.plain import (
    HOSTS,
    assert_identical,
    disturb,
    image,
    plain_resnet,
    snapshot,
    with_defaults,
)
from tests.tiny import TinyClassifier, Weights, runner, tuned_resnet


def pretrained(weights: Weights) -> dict[str, Tensor]:
    return torch.load(weights('mmdet', depth=18), weights_only=True)


def train_steps(model: nn.Module, steps: int = 3) -> None:
    """Optimise *all* parameters, frozen ones too, with weight decay and momentum."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        sum((out / out.detach().std() - 1).square().mean() for out in model(image(32, 32))).backward()
        optimizer.step()


@pytest.mark.parametrize(
    'switch',
    [lambda m: m, lambda m: m.train(), lambda m: m.train(True), lambda m: m.eval().train()],
    ids=['as built', 'train()', 'train(True)', 'eval().train()'],
)
def test_training_leaves_every_frozen_tensor(switch: Callable[[nn.Module], nn.Module], weights: Weights) -> None:
    """Parameters, running statistics and num_batches_tracked; and prompts do change."""
    tuned = tuned_resnet(weights('mmdet', depth=18))
    parent = nn.Sequential(tuned)
    switch(parent)
    prompts = snapshot(tuned.prompts)
    train_steps(parent)
    assert_identical(tuned.state_dict(), pretrained(weights))
    assert tuned.bn1.num_batches_tracked == 7
    changed = [not torch.equal(t, prompts[k]) for k, t in tuned.prompts.state_dict().items()]
    assert all(changed)


def test_no_gradient_reaches_a_frozen_parameter(weights: Weights) -> None:
    tuned = tuned_resnet(weights('mmdet', depth=18)).train()
    tuned(image())[-1].mean().backward()
    for name, param in tuned.named_parameters():
        assert (param.grad is None) == (not name.startswith('prompts.')), name
        assert param.requires_grad == name.startswith('prompts.'), name


def test_prompt_norms_train_while_frozen_norms_do_not(weights: Weights) -> None:
    """Batch norm in a prompt follows train(); the network's own never does."""
    tuned = tuned_resnet(weights('mmdet', depth=18), prompt=dict(norm_cfg=dict(type='BN'))).train()
    tuned(image())
    assert tuned.prompts[0].norm1.num_batches_tracked == 1
    assert tuned.bn1.num_batches_tracked == 7
    norms = [m for m in tuned.modules() if isinstance(m, nn.BatchNorm2d)]
    training = {m for m in norms if m.training}
    assert training == {m for m in tuned.prompts.modules() if isinstance(m, nn.BatchNorm2d)}


@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16, torch.float16])
def test_to_dtype(dtype: torch.dtype, weights: Weights) -> None:
    """.to(dtype) converts frozen tensors as plain torch does, and they stay frozen."""
    tuned = tuned_resnet(weights('mmdet', depth=18)).to(dtype).train()
    expected = {k: v.to(dtype) if v.is_floating_point() else v for k, v in pretrained(weights).items()}
    assert_identical(tuned.state_dict(), expected)
    assert all(p.dtype == dtype for p in tuned.parameters())
    assert tuned.plain.conv1.weight is tuned.conv1.weight
    assert not any(p.requires_grad for s in tuned.stages for p in s.parameters())
    if dtype == torch.float64:
        tuned.forward(image().to(dtype))[-1].mean().backward()
        assert_identical(tuned.state_dict(), expected)


@pytest.mark.parametrize('how', ['deepcopy', 'pickle'])
def test_copy_shares_nothing(how: str, weights: Weights) -> None:
    """A copy computes with its own tensors, stem and prompts included, and is as frozen as the original."""
    tuned = tuned_resnet(weights('mmdet', depth=18)).train()
    disturb(tuned.prompts)
    if how == 'deepcopy':
        copied = copy.deepcopy(tuned)
    else:
        buffer = io.BytesIO()
        torch.save(tuned, buffer)
        buffer.seek(0)
        copied = torch.load(buffer, weights_only=False)
    state = snapshot(tuned)
    with torch.no_grad():
        expected = tuned(image())
        for tensor in tuned.state_dict().values():
            tensor.zero_()
        for got, e in zip(copied(image()), expected):
            assert torch.equal(got, e) and e.any()
    assert_identical(copied.state_dict(), state)
    pointers = [{t.data_ptr() for t in m.state_dict().values()} for m in (tuned, copied)]
    assert not pointers[0] & pointers[1]
    assert not {id(m) for m in tuned.modules()} & {id(m) for m in copied.modules()}
    train_steps(copied.train())
    assert_identical(copied.state_dict(), pretrained(weights))
    assert not any(t.any() for t in tuned.state_dict().values())


def test_exponential_moving_average(weights: Weights) -> None:
    """The averaged copy's frozen tensors stay bit-identical; its prompts are averages."""
    for update_buffers in (False, True):
        tuned = tuned_resnet(weights('mmdet', depth=18)).train()
        ema = ExponentialMovingAverage(tuned, momentum=0.3, update_buffers=update_buffers)
        expected = tuned.prompts[0].expand.weight.detach().clone()
        for step in range(3):
            train_steps(tuned, steps=1)
            ema.update_parameters(tuned)
            current = tuned.prompts[0].expand.weight.detach()
            expected = current.clone() if step == 0 else 0.7 * expected + 0.3 * current
        assert_identical(ema.module.state_dict(), pretrained(weights))
        assert_identical(tuned.state_dict(), pretrained(weights))
        averaged = ema.module.prompts[0].expand.weight
        assert torch.allclose(averaged, expected, rtol=1e-5, atol=1e-8)
        assert not torch.equal(averaged, tuned.prompts[0].expand.weight)


def test_run_with_ema_hook_and_resume(tmp_path: Path, weights: Weights) -> None:
    """A real run with EMAHook, its checkpoint, and a resumed run: frozen tensors as in the file they came from."""
    frozen = {f'backbone.{k}': v for k, v in pretrained(weights).items()}
    ema = [dict(type='EMAHook')]
    model = TinyClassifier(tuned_resnet(weights('mmdet', depth=18)))
    run = runner(model, tmp_path / 'a', custom_hooks=ema)
    run.train()
    assert_identical(model.state_dict(), frozen)
    saved = torch.load(tmp_path / 'a/epoch_2.pth', weights_only=False)
    assert_identical(saved['state_dict'], frozen)
    assert_identical(saved['ema_state_dict'], {f'module.{k}': v for k, v in frozen.items()})

    # resumed by a model that was filled from no file: the checkpoint brings the frozen tensors
    model = TinyClassifier(tuned_resnet())
    run = runner(
        model,
        tmp_path / 'b',
        epochs=3,
        custom_hooks=ema,
        resume=True,
        load_from=str(tmp_path / 'a/epoch_1.pth'),
    )
    run.train()
    assert run.iter == 6
    assert_identical(model.state_dict(), frozen)


def test_resumed_run_ends_as_the_unbroken_one(tmp_path: Path, weights: Weights) -> None:
    """Two epochs in one go, and one epoch resumed for the second: the same weights, bit for bit."""
    ends = []
    for name, first in (('whole', 2), ('broken', 1)):
        torch.manual_seed(5)
        model = TinyClassifier(tuned_resnet(weights('mmdet', depth=18)))
        run = runner(model, tmp_path / name, epochs=first)
        run.train()
        if first == 1:
            torch.manual_seed(6)
            model = TinyClassifier(tuned_resnet())
            runner(model, tmp_path / name, epochs=2, resume=True).train()
        ends.append(snapshot(model))
    assert_identical(ends[1], ends[0])


def test_state_dict_round_trip(weights: Weights) -> None:
    """Saved and loaded strictly, every tensor is itself again, in a model filled from no file."""
    tuned = tuned_resnet(weights('mmdet', depth=18))
    disturb(tuned.prompts)
    fresh = tuned_resnet()
    assert fresh.frozen_source is None
    fresh.load_state_dict(tuned.state_dict(), strict=True)
    assert fresh.frozen_source is not None
    assert_identical(fresh.state_dict(), tuned.state_dict())


@pytest.mark.parametrize('host', HOSTS)
@pytest.mark.parametrize('variant', [dict(depth=18), dict(depth=50, deep_stem=True)])
def test_untuned_is_the_plain_host_network(host: str, variant: dict, weights: Weights, tmp_path: Path) -> None:
    """After training: the host's own class, its own keys, bit for bit, and no tie to the tuned network."""
    path = weights(host, **variant)
    tuned = ProTunedResNet(
        host=host,
        init_cfg=dict(type='Pretrained', checkpoint=path),
        **with_defaults(variant),
    )
    tuned.init_weights()
    train_steps(tuned.train())
    plain = tuned.untuned()

    expected = plain_resnet(host, **variant)
    load_checkpoint(expected, path, strict=True)
    assert type(plain) is type(expected)
    assert set(plain.state_dict()) == set(expected.state_dict())
    assert_identical(plain.state_dict(), expected.state_dict())
    assert all(param.requires_grad for param in plain.parameters()), 'it can be fine-tuned'
    assert [n for n, _ in plain.named_modules()] == [n for n, _ in expected.named_modules()]
    expected.eval()
    plain.eval()
    with torch.no_grad():
        for got, e in zip(plain(image(97, 131)), expected(image(97, 131))):
            assert torch.equal(got, e)

        before = tuned(image())
        for tensor in plain.state_dict().values():
            tensor.zero_()
        for got, b in zip(tuned(image()), before):
            assert torch.equal(got, b)
    assert 'prompts.0.reduce.weight' in tuned.state_dict()


def test_tables_of_rotary_positions_are_kept() -> None:
    """For images of other sizes, mmpretrain's EVA-02 replaces tables of its state dict."""
    cfg = dict(type='mmpretrain.ViTEVA02', arch='t', img_size=28, out_type='cls_token')
    net = TunedBackbone(cfg, 'linear', host='mmpretrain', allow_random_backbone=True).eval()
    host = build_plain(cfg, 'mmpretrain')
    host.eval()  # returns None
    host.load_state_dict(net.state_dict())
    before = snapshot(net)
    with torch.no_grad():
        for size in (28, 56, 28):
            x = torch.randn(1, 3, size, size)
            assert torch.equal(net(x)[0], host(x)[0])
            assert_identical(net.state_dict(), before)
