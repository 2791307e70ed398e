"""What holds for every family of backbones with every tuning that fits it; a new one is tested by being listed."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import ExponentialMovingAverage
from torch import Tensor, nn

from protuning_mm import TUNINGS, TunedBackbone, TuningError
from tests.families import CELLS, FAMILIES, REFUSED, TUNING_CFGS, build_plain, flat, images
from tests.plain import assert_identical, fill, relative_error, snapshot

Weights = Callable[[str], str]
# one cell for each family and one for each tuning
QUICK = {(family, 'pro') for family in FAMILIES} | {
    (next(f for f in reversed(FAMILIES) if (f, tuning) in CELLS), tuning) for tuning in TUNING_CFGS
}
# compiling and exporting take long: convolutions, a transformer, a tuning that changes the weights, and one of a host
QUICK_COMPILED = {('timm.resnet', 'pro'), ('timm.deit', 'pro'), ('timm.convnext', 'lora'), ('mmdet.ResNet', 'pro')}


def cells(quick: set[tuple[str, str]]) -> pytest.MarkDecorator:
    """Every family with every tuning; what is not in ``quick`` is slow."""
    assert quick <= set(CELLS)
    every = [pytest.param(*cell, id='-'.join(cell), marks=() if cell in quick else pytest.mark.slow) for cell in CELLS]
    return pytest.mark.parametrize(('family', 'tuning'), every)


sampled = cells(QUICK)
families = pytest.mark.parametrize('family', list(FAMILIES))


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """A file of each family's plain weights, written from the host's own model."""
    folder = tmp_path_factory.mktemp('plain')

    def path_of(family: str) -> str:
        path: Path = folder / f'{family}.pth'
        if not path.exists():
            torch.save(fill(build_plain(family)).state_dict(), path)
        return str(path)

    return path_of


def build(family: str, tuning: str, path: str) -> TunedBackbone:
    tuned = TunedBackbone(FAMILIES[family], TUNING_CFGS[tuning], init_cfg=dict(type='Pretrained', checkpoint=path))
    tuned.init_weights()
    return tuned


def plain(family: str, path: str) -> nn.Module:
    model = build_plain(family)
    model.load_state_dict(torch.load(path))
    model.eval()
    return model


def outputs(family: str, model: nn.Module, tuned: TunedBackbone, x: Tensor) -> list[Tensor]:
    """What the host's own model returns; a model of timm is asked as the tuned one asks it."""
    run = tuned.structure.run
    return flat(model(x) if run is None else run(model, x))


def loss_of(outs: list[Tensor]) -> Tensor:
    """A loss that no norm makes constant."""
    generator = torch.Generator().manual_seed(0)
    return sum(((out * torch.randn(out.shape, generator=generator)).mean() for out in outs), torch.zeros(()))


def three_steps(tuned: TunedBackbone, x: Tensor) -> None:
    params = [p for p in tuned.parameters() if p.requires_grad]
    if not params:
        return
    optimizer = torch.optim.Adam(params, lr=1e-2)
    tuned.train()
    for _ in range(3):
        optimizer.zero_grad()
        loss_of(flat(tuned(x))).backward()
        optimizer.step()
    tuned.eval()


def test_every_registered_tuning_stands_in_the_list() -> None:
    # studies register variants, which are tested with them
    registered = {name for name, cls in TUNINGS.module_dict.items() if cls.__module__.startswith('protuning_mm.')}
    assert registered == {cfg['type'] for cfg in TUNING_CFGS.values() if isinstance(cfg, dict)}, (
        'a tuning is tested by standing in tests/families.py'
    )


@sampled
def test_names_are_the_plain_ones_and_the_tunings_own(family: str, tuning: str, checkpoint: Weights) -> None:
    path = checkpoint(family)
    tuned = build(family, tuning, path)
    state, expected = tuned.state_dict(), torch.load(path)
    children = {t.child for t in tuned.tunings if t.added is not None}
    assert {key for key in state if key.split('.')[0] not in children} == set(expected)
    assert_identical({key: state[key] for key in expected}, expected)
    assert all(any(key.startswith(f'{child}.') for key in state) for child in children)


@sampled
def test_starts_as_the_plain_network_where_it_says_so(family: str, tuning: str, checkpoint: Weights) -> None:
    path = checkpoint(family)
    tuned = build(family, tuning, path).eval()
    x = images(family)
    with torch.no_grad():
        ours, theirs = flat(tuned(x)), outputs(family, plain(family, path), tuned, x)
    error = max(relative_error(a, b) for a, b in zip(ours, theirs, strict=True))
    identity_at_init = all(t.identity_at_init for t in tuned.tunings)
    assert identity_at_init == (error <= 1e-5), error


@sampled
def test_three_steps_change_what_is_declared_and_nothing_else(family: str, tuning: str, checkpoint: Weights) -> None:
    tuned = build(family, tuning, checkpoint(family))
    before = snapshot(tuned)
    three_steps(tuned, images(family))
    changed = {key for key, value in tuned.state_dict().items() if not torch.equal(value, before[key])}
    added = {key for key in before if key not in tuned.plain_keys}
    declared = tuned.trained_keys | added
    buffers = {key for key, _ in tuned.named_buffers()}
    if any(t.follows_train_mode for t in tuned.tunings):
        assert changed - buffers == declared - buffers
    else:
        assert changed - (added & buffers) == declared - buffers
        assert not changed & tuned.frozen_keys


@sampled
def test_taking_it_off_gives_back_the_plain_network(family: str, tuning: str, checkpoint: Weights) -> None:
    path = checkpoint(family)
    tuned = build(family, tuning, path)
    three_steps(tuned, images(family))
    bare, expected = tuned.untuned(), plain(family, path)
    assert type(bare) is type(expected)
    if any(t.follows_train_mode for t in tuned.tunings):
        bare.load_state_dict({k: v for k, v in torch.load(path).items() if 'num_batches' in k}, strict=False)
    assert_identical(bare.state_dict(), expected.state_dict())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in bare.modules())
    bare.eval()
    x = images(family)
    with torch.no_grad():
        for a, b in zip(outputs(family, bare, tuned, x), outputs(family, expected, tuned, x), strict=True):
            assert torch.equal(a, b)


@sampled
def test_merging_keeps_the_outputs_or_is_refused(family: str, tuning: str, checkpoint: Weights) -> None:
    tuned = build(family, tuning, checkpoint(family))
    three_steps(tuned, images(family))
    tuned.eval()
    if not set(tuning.split(', ')) <= {'linear', 'full', 'partial', 'bias', 'norm', 'lora', 'dora', 'ssf', 'ia3'}:
        with pytest.raises(TuningError, match='cannot be merged'):
            tuned.merge()
        return
    merged = tuned.merge()
    assert type(merged) is type(tuned.plain)
    merged.eval()
    x = images(family)
    with torch.no_grad():
        for a, b in zip(flat(tuned(x)), outputs(family, merged, tuned, x), strict=True):
            assert relative_error(a, b) <= 1e-5


@sampled
def test_modes_copies_and_state_dicts(family: str, tuning: str, checkpoint: Weights) -> None:
    """train()/eval()/train(), deepcopy, a strict round trip, and a pickled config."""
    path = checkpoint(family)
    tuned = build(family, tuning, path)
    x = images(family)
    three_steps(tuned, x)
    before = snapshot(tuned)
    if not any(t.follows_train_mode for t in tuned.tunings):
        for mode in (True, False, True):
            tuned.train(mode)
            assert not any(tuned.plain.get_submodule(name).training for name in tuned.plain_children)
            tuned(x)
        assert_identical({k: before[k] for k in tuned.plain_keys}, tuned.plain_tensors())
    tuned.eval()
    twin = copy.deepcopy(tuned)
    with torch.no_grad():
        expected = flat(tuned(x))
        for a, b in zip(flat(twin(x)), expected, strict=True):
            assert torch.equal(a, b)
        for param in twin.parameters():
            param.add_(1)
        assert_identical(tuned.state_dict(), before)
        for a, b in zip(flat(tuned(x)), expected, strict=True):
            assert torch.equal(a, b)
    cfg = pickle.loads(pickle.dumps(Config(dict(backbone=FAMILIES[family], tuning=TUNING_CFGS[tuning]))))
    fresh = TunedBackbone(**cfg.to_dict())
    fresh.load_state_dict(before, strict=True)
    fresh.eval()
    with torch.no_grad():
        for a, b in zip(flat(fresh(x)), expected, strict=True):
            assert torch.equal(a, b)


@sampled
def test_precisions_and_memory_format(family: str, tuning: str, checkpoint: Weights) -> None:
    path = checkpoint(family)
    tuned, model = build(family, tuning, path).eval(), plain(family, path)
    x = images(family)
    with torch.no_grad():
        expected = flat(tuned(x))
        with torch.autocast('cpu', torch.bfloat16):
            assert all(torch.isfinite(out).all() for out in flat(tuned(x)))
        last = copy.deepcopy(tuned).to(memory_format=torch.channels_last)
        for a, b in zip(flat(last(x.contiguous(memory_format=torch.channels_last))), expected, strict=True):
            assert relative_error(a, b) <= 1e-4
        for dtype in (torch.bfloat16, torch.float16):
            try:  # some hosts make fp32 masks inside
                outputs(family, copy.deepcopy(model).to(dtype), tuned, x.to(dtype))
            except RuntimeError:
                continue
            outs = flat(copy.deepcopy(tuned).to(dtype)(x.to(dtype)))
            assert all(out.dtype == dtype for out in outs)


@sampled
def test_odd_sizes_and_one_image(family: str, tuning: str, checkpoint: Weights) -> None:
    """A training step with one image, of a size that is no multiple of anything where the host takes it."""
    path = checkpoint(family)
    tuned, model = build(family, tuning, path), plain(family, path)
    taken = []
    for size in ((97, 131), (72, 40)):
        x = images(family, 1, size)
        try:
            with torch.no_grad():
                theirs = outputs(family, model, tuned, x)
        except (AssertionError, RuntimeError):
            continue
        taken.append(size)
        tuned.train()
        ours = flat(tuned(x))
        assert [a.shape for a in ours] == [b.shape for b in theirs]
        if any(p.requires_grad for p in tuned.parameters()):
            loss_of(ours).backward()
            for name, param in tuned.named_parameters():
                assert not param.requires_grad or torch.isfinite(param.grad).all(), name
    assert taken or family in ('timm.deit', 'timm.swin', 'mmpretrain.Swin')


@sampled
def test_moving_average(family: str, tuning: str, checkpoint: Weights) -> None:
    """The average of a model that has not moved is the model, and it runs on its own modules."""
    tuned = build(family, tuning, checkpoint(family)).eval()
    ema = ExponentialMovingAverage(tuned, momentum=0.5)
    before = snapshot(ema.module)
    x = images(family)
    three_steps(tuned, x)
    ema.update_parameters(tuned)
    ema.update_parameters(tuned)
    moved = {key for key, value in ema.module.state_dict().items() if not torch.equal(value, before[key])}
    assert not moved & tuned.frozen_keys
    assert moved or not any(p.requires_grad for p in tuned.parameters())
    ema.module.eval()
    with torch.no_grad():
        assert all(torch.isfinite(out).all() for out in flat(ema.module(x)))


@families
def test_prompts_feed_the_next_stages(family: str, checkpoint: Weights) -> None:
    tuned = build(family, 'pro', checkpoint(family)).eval()
    x = images(family)
    seen: list[list[Tensor]] = [[], []]
    ends = [tuned.plain.get_submodule(stage.end) for stage in tuned.structure.stages]

    def watch(into: list[Tensor]) -> list[object]:
        return [end.register_forward_hook(lambda m, a, out: into.append(out)) for end in ends]

    with torch.no_grad():
        handles = watch(seen[0])
        tuned(x)
        for handle in handles:
            handle.remove()
        for param in tuned.prompts[0].parameters():
            param.add_(0.3 * torch.randn(param.shape))
        watch(seen[1])
        tuned(x)
    assert len(seen[0]) == len(tuned.structure.stages) == 4
    for before, after in zip(*seen, strict=True):
        assert not torch.allclose(before, after)
    for prompt in tuned.prompts:
        nn.init.normal_(prompt.expand.weight)
    loss_of(flat(tuned(x))[-1:]).backward()
    for name, param in tuned.prompts[0].named_parameters():
        assert param.grad.abs().sum() > 0, name


@sampled
def test_every_prompt_parameter_is_trained_from_the_second_step_on(
    family: str, tuning: str, checkpoint: Weights
) -> None:
    tuned = build(family, tuning, checkpoint(family)).train()
    trained = [(name, p) for name, p in tuned.named_parameters() if p.requires_grad]
    if not trained:
        assert tuning == 'linear'
        return
    for _ in range(2):
        loss_of(flat(tuned(images(family)))).backward()
        with torch.no_grad():
            for name, param in trained:
                assert param.grad is not None, name
                param -= 0.05 * param.grad.sign()
        tuned.zero_grad()


@pytest.mark.parametrize(('family', 'tuning'), REFUSED)
def test_a_tuning_that_does_not_fit_is_refused(family: str, tuning: str) -> None:
    name = tuning.split()[0]
    with pytest.raises(TuningError, match=f"{name} needs .* use '"):
        TunedBackbone(FAMILIES[family], TUNING_CFGS[tuning])


def graph_breaks(model: nn.Module, x: Tensor) -> int:
    """How often torch.compile has to leave its graph."""
    torch._dynamo.reset()
    return int(torch._dynamo.explain(model)(x).graph_break_count)


@cells(QUICK_COMPILED)
def test_compiles_and_exports_wherever_the_host_does(family: str, tuning: str, checkpoint: Weights) -> None:
    path = checkpoint(family)
    tuned, model = build(family, tuning, path).eval(), plain(family, path)
    x = images(family)
    run = tuned.structure.run

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor) -> object:
            return self.model(x) if run is None else run(self.model, x)

    host = Plain().eval()
    expected = flat(tuned(x))
    breaks = graph_breaks(host, x)
    torch._dynamo.reset()
    compiled = torch.compile(tuned, fullgraph=breaks == 0, backend='eager')  # one graph where the host is one
    for a, b in zip(flat(compiled(x)), expected, strict=True):
        assert relative_error(a, b) <= 1e-5
    try:
        torch.export.export(host, (x,))
    except Exception:
        return
    exported = torch.export.export(tuned, (x,)).module()
    for a, b in zip(flat(exported(x)), expected, strict=True):
        assert relative_error(a, b) <= 1e-5
