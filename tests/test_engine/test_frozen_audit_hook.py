"""FrozenAuditHook: whatever moves a frozen tensor stops the run, by name, before anything is saved."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from torch import nn

from protuning_mm.weights import FrozenWeightsError
from tests.test_engine.test_delta_checkpoint_hook import model
from tests.tiny import TinyClassifier, Weights, runner

HOOKS = dict(
    checkpoint=dict(type='protuning_mm.CheckpointHook', interval=1),
    tuning=dict(type='protuning_mm.TuningHook'),
    audit=dict(type='protuning_mm.FrozenAuditHook'),
)


class Moving(Hook):
    """Does something to the model at the second iteration."""

    def __init__(self, move: Any, at: int = 1) -> None:
        self.move, self.at = move, at

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if runner.iter == self.at:
            self.move(runner.model.backbone)


def parameter(backbone: nn.Module) -> None:
    backbone.plain.layer3[1].conv2.weight.data[0, 0, 0, 0] += 1e-6


def statistic(backbone: nn.Module) -> None:
    backbone.plain.bn1.running_var.mul_(1.01)


def counter(backbone: nn.Module) -> None:
    backbone.plain.bn1.num_batches_tracked += 1


def another_module(backbone: nn.Module) -> None:
    backbone._modules['layer1'][0].conv1 = nn.Conv2d(4, 4, 3, padding=1, bias=False)


def one_bit(backbone: nn.Module) -> None:
    backbone.plain.conv1.weight.data.view(-1).view(torch.int32)[5] ^= 1


MOVES = {
    'layer3.1.conv2.weight': parameter,
    'bn1.running_var': statistic,
    'bn1.num_batches_tracked': counter,
    'layer1.0.conv1.weight': another_module,
    'conv1.weight': one_bit,
}


@pytest.mark.parametrize('name', list(MOVES))
def test_stops_at_the_save(name: str, tmp_path: Path, weights: Weights) -> None:
    run = runner(
        model(weights), tmp_path / 'run', epochs=3, default_hooks=HOOKS, custom_hooks=[Moving(MOVES[name], at=2)]
    )
    with pytest.raises(FrozenWeightsError) as caught:
        run.train()
    assert f'1 moved:\n    {name}' in str(caught.value) and '1 frozen tensors of backbone' in str(caught.value)
    assert [p.name for p in (tmp_path / 'run').glob('*.pth')] == ['epoch_1.pth']


def test_stops_at_the_end(tmp_path: Path, weights: Weights) -> None:
    """Nothing is saved after the move: the end of training finds it."""
    hooks = HOOKS | dict(checkpoint=dict(type='protuning_mm.CheckpointHook', interval=1, save_last=False, save_begin=9))
    run = runner(model(weights), tmp_path / 'run', default_hooks=hooks, custom_hooks=[Moving(parameter)])
    with pytest.raises(FrozenWeightsError, match='layer3.1.conv2.weight'):
        run.train()


@pytest.mark.parametrize('tuning', ['pro', 'linear', 'bias', 'norm', 'partial', 'lora', 'full'])
def test_lets_an_honest_run_pass(tuning: str, tmp_path: Path, weights: Weights) -> None:
    classifier = model(weights, tuning=tuning)
    runner(classifier, tmp_path / 'run', default_hooks=HOOKS).train()
    log = next((tmp_path / 'run').rglob('*.log')).read_text()
    assert f'backbone: {len(classifier.backbone.frozen_keys)} frozen tensors, fingerprint' in log


def test_model_without_frozen_parts(tmp_path: Path) -> None:
    from tests.plain import plain_resnet

    runner(TinyClassifier(plain_resnet('mmdet', depth=18)), tmp_path / 'run', epochs=1, default_hooks=HOOKS).train()
