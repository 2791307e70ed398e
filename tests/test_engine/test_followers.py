"""Copies of a tuned backbone that follow it: frozen tensors are the file's to the last bit, the rest is the rule's."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import ExponentialMovingAverage
from mmengine.registry import MODELS
from torch import Tensor, nn

from protuning_mm.weights import FrozenWeightsError
from tests.plain import assert_identical, fill, plain_resnet, snapshot
from tests.test_engine.test_frozen_audit_hook import HOOKS
from tests.test_engine.test_tuning_hook import log_of
from tests.tiny import TinyClassifier, Weights, runner, tuned_resnet


class Averaging(ExponentialMovingAverage):
    """The formula of mmpretrain's CosineEMA and mmdet's MeanTeacherHook, which rounds where both sides are equal."""

    def avg_func(self, averaged_param: Tensor, source_param: Tensor, steps: int) -> None:
        averaged_param.mul_(1 - self.momentum).add_(source_param, alpha=self.momentum)


class Target(TinyClassifier):
    """BYOL's way: a copy is made while the model is built, and updated inside of the loss."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__(backbone)
        self.target = Averaging(nn.Sequential(self.backbone), momentum=0.1)
        self.history: list[Tensor] = []

    def forward(self, inputs: Tensor, label: Tensor, mode: str = 'tensor') -> Any:
        if mode == 'loss':
            with torch.no_grad():
                added = getattr(self.backbone, 'prompts', None)
                if added is not None:
                    self.history.append(added[0].reduce.weight.detach().clone())
                self.target.update_parameters(nn.Sequential(self.backbone))
                self.target(inputs)
        return super().forward(inputs, label, mode)


class Teacher(TinyClassifier):
    """mmdet's way: two models of one config, one of them frozen."""

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        super().__init__(nn.Identity())
        del self.backbone, self.head
        self.student, self.teacher = TinyClassifier(student), TinyClassifier(teacher).requires_grad_(False)

    def forward(self, inputs: Tensor, label: Tensor, mode: str = 'tensor') -> Any:
        with torch.no_grad():
            self.teacher.eval()(inputs, label)
        return self.student(inputs, label, mode)


class OwnTeacherHook(Hook):
    """A rule that nobody knows."""

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        model = runner.model
        for theirs, ours in zip(model.student.parameters(), model.teacher.parameters()):
            ours.data.mul_(0.9).add_(theirs.data, alpha=0.1)


def filled(weights: Weights, **kwargs: Any) -> nn.Module:
    """To be filled by the runner, as in a config."""
    return tuned_resnet(init_cfg=dict(type='Pretrained', checkpoint=weights('mmdet', depth=18)), **kwargs)


def file_of(weights: Weights) -> dict[str, Tensor]:
    return torch.load(weights('mmdet', depth=18), weights_only=True)


def rounds(state: dict[str, Tensor]) -> bool:
    """Whether the rule alone would move these tensors."""
    moved = [not torch.equal(t.mul(0.9).add(t, alpha=0.1), t) for t in state.values() if t.is_floating_point()]
    return sum(moved) > 10


def saved(work_dir: Path) -> dict[str, Any]:
    return torch.load(work_dir / 'epoch_3.pth', weights_only=False)


@pytest.mark.parametrize('tuning', ['pro', 'linear'])
def test_a_target_that_was_copied_before_weights_were_loaded(tuning: str, tmp_path: Path, weights: Weights) -> None:
    state = file_of(weights)
    assert rounds(state)
    model = Target(filled(weights, tuning=tuning))
    runner(model, tmp_path / 'run', epochs=3, default_hooks=HOOKS).train()
    copied = model.target.module[0]
    assert_identical(copied.state_dict(), state)
    whole = saved(tmp_path / 'run')['state_dict']
    assert_identical({k.removeprefix('target.module.0.'): v for k, v in whole.items()}, state)
    assert 'target.module.0 follows backbone (Averaging)' in log_of(tmp_path / 'run')
    if tuning == 'pro':  # by the formula, in double precision
        expected = model.history[0].double()
        for source in model.history[1:]:
            expected = 0.9 * expected + 0.1 * source.double()
        assert torch.allclose(copied.prompts[0].reduce.weight.double(), expected, atol=1e-7)
        assert not torch.equal(copied.prompts[0].reduce.weight, model.backbone.prompts[0].reduce.weight)


def test_a_target_takes_load_from_like_its_leader(tmp_path: Path, weights: Weights) -> None:
    """A pre-trained checkpoint has no target; and a resumed run goes on from the one that was saved."""
    plain = fill(TinyClassifier(plain_resnet('mmdet', depth=18)))
    torch.save(dict(state_dict=plain.state_dict(), meta={}), tmp_path / 'whole.pth')
    model = Target(tuned_resnet())
    load_from = str(tmp_path / 'whole.pth')
    runner(model, tmp_path / 'run', epochs=3, default_hooks=HOOKS, load_from=load_from).train()
    assert_identical(model.target.module[0].state_dict(), plain.backbone.state_dict())
    prompt = model.target.module[0].prompts[0].reduce.weight.clone()
    again = Target(tuned_resnet())
    again_run = runner(again, tmp_path / 'run', epochs=3, default_hooks=HOOKS, resume=True)
    again_run.load_or_resume()
    assert torch.equal(again.target.module[0].prompts[0].reduce.weight, prompt)
    assert_identical(again.target.module[0].state_dict(), plain.backbone.state_dict())


@pytest.mark.parametrize('hook', ["mmdet's", 'of nobody'])
def test_a_mean_teacher(hook: str, tmp_path: Path, weights: Weights) -> None:
    import mmdet.engine  # noqa: F401

    state = file_of(weights)
    model = Teacher(filled(weights), filled(weights))
    hooks = [OwnTeacherHook() if hook == 'of nobody' else dict(type='mmdet.MeanTeacherHook', momentum=0.1)]
    runner(model, tmp_path / 'run', epochs=3, default_hooks=HOOKS, custom_hooks=hooks).train()
    assert_identical(model.teacher.backbone.state_dict(), state)
    whole = saved(tmp_path / 'run')['state_dict']
    assert_identical({k.removeprefix('teacher.backbone.'): v for k, v in whole.items()}, state)
    assert not torch.equal(model.teacher.head.weight, model.student.head.weight)


def test_a_delta_of_a_mean_teacher(tmp_path: Path, weights: Weights) -> None:
    """Both bases are left out; the delta loads into a new model."""
    import mmdet.engine  # noqa: F401

    hooks = HOOKS | dict(checkpoint=dict(type='protuning_mm.DeltaCheckpointHook', interval=1))
    model = Teacher(filled(weights), filled(weights))
    teacher = [dict(type='mmdet.MeanTeacherHook', momentum=0.1)]
    runner(model, tmp_path / 'run', epochs=3, default_hooks=hooks, custom_hooks=teacher).train()
    delta = saved(tmp_path / 'run')['state_dict']
    assert not [key for key in delta if '.layer1.' in key]
    fresh = Teacher(filled(weights), filled(weights))
    fresh.load_state_dict(delta)
    assert_identical(fresh.state_dict(), snapshot(model))


@pytest.mark.parametrize('average', ['ExponentialMovingAverage', 'RoundingAverage'])
def test_ema_hook(average: str, tmp_path: Path, weights: Weights) -> None:
    """Validation runs on the average, and what is saved is the average: with the file's frozen tensors in both."""
    if 'RoundingAverage' not in MODELS:
        MODELS.register_module('RoundingAverage', module=Averaging)
    seen: list[dict[str, Tensor]] = []

    class Watching(Hook):
        priority = 'VERY_LOW'

        def before_val_epoch(self, runner: Any) -> None:
            seen.append(snapshot(runner.model.backbone))

    state = file_of(weights)
    model = TinyClassifier(filled(weights))
    hooks = [dict(type='EMAHook', ema_type=average, momentum=0.1), Watching()]
    runner(model, tmp_path / 'run', epochs=3, default_hooks=HOOKS, custom_hooks=hooks).train()
    assert len(seen) == 3
    for each in seen:
        assert_identical(each, state)
    content = saved(tmp_path / 'run')
    for part, lead in (('state_dict', 'backbone.'), ('ema_state_dict', 'module.backbone.')):
        assert_identical({k.removeprefix(lead): v for k, v in content[part].items()}, state)
    assert_identical(model.backbone.state_dict(), state)


def test_a_backbone_of_its_own_is_no_follower(tmp_path: Path, weights: Weights) -> None:
    """A frozen teacher with other weights, as distillation has it, keeps them."""
    other = fill(plain_resnet('mmdet', depth=18), seed=5).state_dict()
    torch.save(other, tmp_path / 'other.pth')
    teacher = tuned_resnet(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'other.pth')))
    model = Teacher(filled(weights), teacher)
    runner(model, tmp_path / 'run', epochs=3, default_hooks=HOOKS).train()
    assert_identical(model.teacher.backbone.state_dict(), other)
    assert_identical(model.student.backbone.state_dict(), file_of(weights))
    assert 'follows' not in log_of(tmp_path / 'run')


def test_what_drifts_without_being_known_is_stopped_with_the_cause(tmp_path: Path, weights: Weights) -> None:
    """A teacher that starts elsewhere and is averaged: nobody can say what its frozen tensors should be."""
    other = copy.deepcopy(file_of(weights))
    other['conv1.weight'] += 0.1
    torch.save(other, tmp_path / 'other.pth')
    teacher = tuned_resnet(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'other.pth')))
    model = Teacher(filled(weights), teacher)
    with pytest.raises(FrozenWeightsError, match=r'Nothing in teacher\.backbone is trained.* an average .* rounded'):
        runner(model, tmp_path / 'run', default_hooks=HOOKS, custom_hooks=[OwnTeacherHook()]).train()
