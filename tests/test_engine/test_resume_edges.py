"""ExactResumeHook where several things save, and where exactness ends."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.hooks import EarlyStoppingHook, Hook
from mmengine.registry import HOOKS
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler

from protuning_mm.engine.hooks import exact_resume_hook
from protuning_mm.weights import load_checkpoint_file
from tests.test_engine.test_exact_resume_hook import BY_ITERATION, Augmented, loader, run, state, validating
from tests.tiny import Rising, Weights


@HOOKS.register_module(force=True)
class SavesByItself(Hook):
    """A user's own hook that saves at the fifth iteration, behind a validation."""

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if runner.iter == 4:
            runner.save_checkpoint(runner.work_dir, 'own.pth', by_epoch=False)
            torch.save(torch.get_rng_state(), Path(runner.work_dir) / 'expected.pt')


def test_another_hook_s_save_holds_the_states_of_its_own_moment(tmp_path: Path, weights: Weights) -> None:
    """Not those that were collected at the last validation, which saved nothing."""
    run(tmp_path / 'run', weights, custom_hooks=[dict(type='SavesByItself')], **validating())
    saved = load_checkpoint_file(str(tmp_path / 'run/own.pth'))['resume_state']['ranks'][0]['torch']
    assert torch.equal(saved, torch.load(tmp_path / 'run/expected.pt'))


class TwoScores(Rising):
    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        return dict(one=1.0, two=2.0)


def test_every_best_checkpoint_holds_all_ranks(
    tmp_path: Path, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact_resume_hook, 'all_gather_object', lambda state: [state, state])
    more = validating() | dict(val_evaluator=Evaluator(TwoScores()))
    run(tmp_path / 'run', weights, epochs=1, checkpoint=dict(save_best=['one', 'two'], rule='greater'), **more)
    best = sorted((tmp_path / 'run').glob('best_*.pth'))
    assert len(best) == 2
    assert [len(load_checkpoint_file(str(path))['resume_state']['ranks']) for path in best] == [2, 2]


def random_order() -> dict[str, Any]:
    """torch's own sampler draws its order from the global stream, and has no seed to save."""
    data = Augmented()
    return dict(train_dataloader=DataLoader(data, batch_size=2, sampler=RandomSampler(data)))


def plateau() -> dict[str, Any]:
    schedule = dict(type='ReduceOnPlateauLR', monitor='score', rule='greater')
    return validating() | dict(param_scheduler=[schedule])


def early_stopping() -> dict[str, Any]:
    return validating() | dict(custom_hooks=[EarlyStoppingHook(monitor='score', rule='greater')])


@pytest.mark.parametrize(
    ('settings', 'said'),
    [
        (random_order, 'RandomSampler has no seed'),
        (early_stopping, 'EarlyStoppingHook'),
    ],
)
def test_says_what_cannot_be_repeated(
    settings: Callable[[], dict[str, Any]], said: str, tmp_path: Path, weights: Weights
) -> None:
    run(tmp_path / 'whole', weights, checkpoint=BY_ITERATION, **settings())
    start = dict(load_from=str(tmp_path / 'whole/iter_4.pth'), resume=True, start=1)
    run(tmp_path / 'resumed', weights, checkpoint=BY_ITERATION, **settings(), **start)
    assert said in next((tmp_path / 'resumed').rglob('*.log')).read_text()


@pytest.mark.parametrize(('hook', 'exact'), [('protuning_mm.CheckpointHook', True), ('CheckpointHook', False)])
def test_scheduler_that_follows_validation(hook: str, exact: bool, tmp_path: Path, weights: Weights) -> None:
    """It gets the metrics of the resumed checkpoint's moment, which was saved before them; not from mmengine's hook."""
    settings = plateau() | dict(checkpoint=dict(type=hook))
    run(tmp_path / 'whole', weights, **settings)
    start = dict(load_from=str(tmp_path / 'whole/epoch_1.pth'), resume=True, start=1)
    run(tmp_path / 'resumed', weights, **settings, **start)
    one, other = (load_checkpoint_file(str(tmp_path / each / 'epoch_2.pth')) for each in ('whole', 'resumed'))
    assert (one['param_schedulers'][0]['last_step'] == other['param_schedulers'][0]['last_step']) == exact
    said = 'ReduceOnPlateauLR depends on' in next((tmp_path / 'resumed').rglob('*.log')).read_text()
    assert said != exact


def test_says_nothing_where_all_is_exact(tmp_path: Path, weights: Weights) -> None:
    run(tmp_path / 'whole', weights, checkpoint=BY_ITERATION)
    start = dict(load_from=str(tmp_path / 'whole/iter_4.pth'), resume=True)
    run(tmp_path / 'resumed', weights, checkpoint=BY_ITERATION, **start)
    assert 'exactly' not in next((tmp_path / 'resumed').rglob('*.log')).read_text()


def test_sampler_that_has_no_seed_at_the_save(tmp_path: Path, weights: Weights) -> None:
    """The one that resumes keeps its own, instead of none."""
    run(tmp_path / 'whole', weights, epochs=1, **random_order())
    start: dict[str, Any] = dict(load_from=str(tmp_path / 'whole/epoch_1.pth'), resume=True)
    run(tmp_path / 'resumed', weights, train_dataloader=loader(), **start)
    ended: dict[str, Tensor] = state(tmp_path / 'resumed', 'epoch_2.pth')
    assert all(tensor.isfinite().all() for tensor in ended.values())
