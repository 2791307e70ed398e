"""ExactResumeHook on a tiny classifier whose data draw from every random stream."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from protuning_mm.engine.random_state import random_state, set_random_state
from protuning_mm.weights import CheckpointError, load_checkpoint_file
from tests.plain import assert_identical
from tests.tiny import Noise, TinyClassifier, Weights, runner, tuned_resnet


class Augmented(Noise):
    """Six images; each visit adds noise from Python's, numpy's and torch's streams."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        item = super().__getitem__(i)
        item['inputs'] += random.random() + np.random.rand() + 0.1 * torch.randn(3, 32, 32)
        return item


def loader(**kwargs: Any) -> dict[str, Any]:
    sampler = dict(type='DefaultSampler', shuffle=True)
    settings = dict(batch_size=2, num_workers=0, dataset=Augmented(), sampler=sampler)
    return settings | dict(collate_fn=dict(type='default_collate')) | kwargs


def run(
    folder: Path,
    weights: Weights,
    epochs: int = 2,
    *,
    hook: bool = True,
    start: int = 0,
    seed: int | None = 3,
    **kwargs: Any,
) -> Any:
    """A run; ``start`` is what happened in the process before it."""
    hooks: dict[str, Any] = dict(
        checkpoint=dict(**{'type': 'protuning_mm.CheckpointHook', 'interval': 1, **kwargs.pop('checkpoint', {})}),
        tuning=dict(type='protuning_mm.TuningHook'),
        sampler_seed=dict(type='DistSamplerSeedHook'),
    )
    if hook:
        hooks['resume'] = dict(type='protuning_mm.ExactResumeHook')
    torch.manual_seed(0)
    model = TinyClassifier(tuned_resnet(weights('mmdet', depth=18)))
    settings = dict(
        train_dataloader=loader(), default_hooks=hooks, randomness=dict(seed=seed), val_dataloader=None, val_cfg=None,
        val_evaluator=None,
    ) | kwargs  # fmt: skip
    each = runner(model, folder, epochs, **settings)
    for generator in (random.seed, np.random.seed, torch.manual_seed):
        generator(100 + start)
    each.train()
    return each


def state(folder: Path, name: str) -> dict[str, Tensor]:
    return load_checkpoint_file(str(folder / name))['state_dict']


def validating() -> dict[str, Any]:
    """Validation that draws from the streams too."""
    from mmengine.evaluator import Evaluator

    from tests.tiny import Rising

    return dict(val_dataloader=loader(sampler=dict(type='DefaultSampler', shuffle=False)), val_cfg={},
                val_evaluator=Evaluator(Rising()))  # fmt: skip


BY_ITERATION = dict(by_epoch=False, interval=1)
ITER_BASED = dict(
    train_cfg=dict(by_epoch=False, max_iters=6, val_interval=2),
    train_dataloader=loader(sampler=dict(type='InfiniteSampler', shuffle=True)),
    checkpoint=BY_ITERATION,
)
KINDS: dict[str, tuple[dict[str, Any], str, str]] = {
    # settings, the checkpoint that is resumed from, the last one
    'between epochs': (dict(), 'epoch_1.pth', 'epoch_2.pth'),
    'within an epoch': (dict(checkpoint=BY_ITERATION), 'iter_4.pth', 'iter_6.pth'),
    'within the first epoch': (dict(checkpoint=BY_ITERATION), 'iter_1.pth', 'iter_6.pth'),
    'at the last iteration of an epoch': (dict(checkpoint=BY_ITERATION), 'iter_3.pth', 'iter_6.pth'),
    'iteration-based': (ITER_BASED, 'iter_4.pth', 'iter_6.pth'),
    'iteration-based, finite sampler': (ITER_BASED | dict(train_dataloader=loader()), 'iter_4.pth', 'iter_6.pth'),
}


QUICK = {('between epochs', True), ('within an epoch', False), ('iteration-based', True)}


@pytest.mark.parametrize(
    ('kind', 'validate'),
    [
        pytest.param(kind, validate, marks=[] if (kind, validate) in QUICK else pytest.mark.slow)
        for kind in KINDS
        for validate in (False, True)
    ],
)
def test_ends_where_one_run_ends(kind: str, validate: bool, tmp_path: Path, weights: Weights) -> None:
    """The second process has drawn other numbers before; mmengine alone ends elsewhere."""
    settings, middle, last = KINDS[kind]
    more = validating() if validate else {}
    run(tmp_path / 'whole', weights, **settings, **more)
    expected = state(tmp_path / 'whole', last)
    middle = str(tmp_path / 'whole' / middle)
    start = dict(load_from=middle, resume=True, start=1)
    if validate:
        more = validating()
    run(tmp_path / 'resumed', weights, **settings, **more, **start)
    assert_identical(state(tmp_path / 'resumed', last), expected)
    if validate:
        more = validating()
    run(tmp_path / 'inexact', weights, hook=False, **settings, **more, **start)
    end = max((tmp_path / 'inexact').glob('*.pth'), key=lambda path: path.stat().st_mtime)
    assert not torch.equal(state(tmp_path / 'inexact', end.name)['head.weight'], expected['head.weight'])


def test_validation_leaves_no_trace(tmp_path: Path, weights: Weights) -> None:
    run(tmp_path / 'without', weights)
    run(tmp_path / 'with', weights, **validating())
    assert_identical(state(tmp_path / 'with', 'epoch_2.pth'), state(tmp_path / 'without', 'epoch_2.pth'))


def test_from_a_best_checkpoint(tmp_path: Path, weights: Weights) -> None:
    """Saved within validation: it holds training's streams, and no optimizer; so only what follows is compared."""
    best = dict(checkpoint=dict(save_best='score', rule='greater'))
    run(tmp_path / 'whole', weights, epochs=1, **validating(), **best)
    one, other = (
        load_checkpoint_file(str(path))['resume_state']['ranks'][0]
        for path in ((tmp_path / 'whole/epoch_1.pth'), next((tmp_path / 'whole').glob('best*')))
    )
    assert torch.equal(one['torch'], other['torch']) and torch.equal(one['python']['words'], other['python']['words'])


def test_seed_that_was_never_set(tmp_path: Path, weights: Weights) -> None:
    """The order of the images is the first run's, too."""
    run(tmp_path / 'whole', weights, seed=None, checkpoint=BY_ITERATION)
    start = dict(load_from=str(tmp_path / 'whole/iter_4.pth'), resume=True, start=1)
    run(tmp_path / 'resumed', weights, seed=None, checkpoint=BY_ITERATION, **start)
    assert_identical(state(tmp_path / 'resumed', 'iter_6.pth'), state(tmp_path / 'whole', 'iter_6.pth'))


def test_nothing_is_loaded_to_be_passed_over(tmp_path: Path, weights: Weights) -> None:
    visits: list[int] = []

    class Counted(Augmented):
        def __getitem__(self, i: int) -> dict[str, Tensor]:
            visits.append(i)
            return super().__getitem__(i)

    run(tmp_path / 'whole', weights, checkpoint=BY_ITERATION)
    start = dict(load_from=str(tmp_path / 'whole/iter_5.pth'), resume=True)
    run(tmp_path / 'resumed', weights, checkpoint=BY_ITERATION, train_dataloader=loader(dataset=Counted()), **start)
    assert len(visits) == 2


@pytest.mark.slow
def test_one_worker_within_an_epoch(tmp_path: Path, weights: Weights) -> None:
    """What is passed over is loaded, so that the worker's own streams come to the right place."""
    settings = dict(checkpoint=BY_ITERATION, train_dataloader=loader(num_workers=1))
    run(tmp_path / 'whole', weights, **settings)
    start = dict(load_from=str(tmp_path / 'whole/iter_4.pth'), resume=True, start=1)
    run(tmp_path / 'resumed', weights, **settings, **start)
    assert_identical(state(tmp_path / 'resumed', 'iter_6.pth'), state(tmp_path / 'whole', 'iter_6.pth'))
    assert 'num_workers > 0' in next((tmp_path / 'resumed').rglob('*.log')).read_text()


def test_says_where_it_is_not_exact(tmp_path: Path, weights: Weights) -> None:
    run(tmp_path / 'older', weights, epochs=1, hook=False)
    start = dict(load_from=str(tmp_path / 'older/epoch_1.pth'), resume=True)
    run(tmp_path / 'resumed', weights, **start)
    assert 'saved without ExactResumeHook' in next((tmp_path / 'resumed').rglob('*.log')).read_text()
    run(tmp_path / 'one', weights, epochs=1)
    content = load_checkpoint_file(str(tmp_path / 'one/epoch_1.pth'))
    content['resume_state']['ranks'] *= 2
    torch.save(content, tmp_path / 'two.pth')
    run(tmp_path / 'fewer', weights, load_from=str(tmp_path / 'two.pth'), resume=True)
    said = next((tmp_path / 'fewer').rglob('*.log')).read_text()
    assert 'the random states of 2 processes, but this run has 1' in said


def test_random_state_round_trip(tmp_path: Path) -> None:
    """Every generator goes on as it would have, a cached Gaussian too, after a trip through a file."""

    def draw() -> list[Any]:
        return [random.random(), random.gauss(0, 1), np.random.randn(3).tolist(), torch.rand(3).tolist()]

    random.gauss(0, 1), np.random.randn(1)  # each keeps the second of a pair
    torch.save(dict(state_dict={}, state=random_state()), tmp_path / 'state.pth')
    expected = [draw(), draw()]
    set_random_state(load_checkpoint_file(str(tmp_path / 'state.pth'))['state'])
    assert [draw(), draw()] == expected


@pytest.mark.parametrize(
    ('part', 'key', 'value'),
    [
        ('numpy', 'position', 10**9),  # numpy takes it, and reads there
        ('numpy', 'position', -5),
        ('numpy', 'position', 'x'),
        ('numpy', 'keys', torch.zeros(3)),
        ('numpy', 'keys', [1]),
        ('numpy', 'name', 'PCG64'),
        ('python', 'words', torch.zeros(625)),
        ('python', 'words', torch.full((625,), -1)),
        ('python', 'version', None),
        ('torch', None, torch.zeros(8, dtype=torch.uint8)),
        ('torch', None, 3),
        ('numpy', None, []),
    ],
)
def test_random_states_that_are_none(part: str, key: str | None, value: Any) -> None:
    state = random_state()
    if key is None:
        state[part] = value
    else:
        state[part][key] = value
    with pytest.raises(CheckpointError, match='random states in the checkpoint'):
        set_random_state(state)
