"""Checks at the start of a run: frozen weights, classes and evaluators."""

from time import perf_counter
from typing import Any

from mmengine.runner import Runner
from torch import nn

from protuning_mm.backbones import tuned_backbones
from protuning_mm.engine.class_check import check_classes, num_classes_of
from protuning_mm.engine.errors import MismatchError
from protuning_mm.engine.evaluator_trial import Trial, try_evaluator
from protuning_mm.engine.faked_predictions import predicts_masks
from protuning_mm.engine.monitored_metrics import unknown_metrics
from protuning_mm.engine.unwrap import unwrap
from protuning_mm.weights import FrozenWeightsError


def check_before_training(runner: Runner) -> None:
    """Check the data sets' classes against the heads, and the validation evaluator on fake predictions.

    Raises:
        MismatchError: classes do not match, the evaluator fails, or it lacks a metric that a hook or scheduler uses.
    """
    check_classes(unwrap(runner.model), runner.train_dataloader.dataset, 'train_dataloader')
    if runner.val_loop is not None:
        check_classes(unwrap(runner.model), runner.val_dataloader.dataset, 'val_dataloader')
        trial = _try_evaluator(runner, runner.val_loop, 'val_evaluator')
        for key, found, advice in unknown_metrics(runner.cfg, trial, 'val_evaluator'):
            raise MismatchError(f'{key}: {found}: {advice}')


def check_before_testing(runner: Runner) -> None:
    """Check the test set's classes against the heads, and the test evaluator on fake predictions.

    Raises:
        MismatchError: classes do not match, or the evaluator fails.
    """
    check_classes(unwrap(runner.model), runner.test_dataloader.dataset, 'test_dataloader')
    _try_evaluator(runner, runner.test_loop, 'test_evaluator')


def check_frozen_weights(model: nn.Module) -> None:
    """Reject a model whose frozen backbone has random weights.

    Raises:
        FrozenWeightsError: the frozen tensors were not loaded from a file, and ``allow_random_backbone`` is not set.
    """
    for name, backbone in tuned_backbones(unwrap(model)).items():
        if backbone.needs_weights():
            raise FrozenWeightsError(
                f'the frozen tensors of {name} ({type(backbone).__name__}) were not loaded from a file: they are '
                "random and will not be trained. Set model.backbone.init_cfg=dict(type='Pretrained', "
                "checkpoint='torchvision://resnet50') or load_from=<a full checkpoint>; to train with a random "
                'backbone, set model.backbone.allow_random_backbone=True.'
            )


def _try_evaluator(runner: Runner, loop: Any, key: str) -> Trial:
    start, model = perf_counter(), unwrap(runner.model)
    evaluator = getattr(loop, 'evaluator', None)
    trial = try_evaluator(evaluator, loop.dataloader.dataset, key, num_classes_of(model), predicts_masks(model))
    for note in trial.untried:
        runner.logger.info(f'not tried before the run: {note}')
    if trial.metrics:
        runner.logger.info(f'{key} was tried on fake predictions, {perf_counter() - start:.1f} s')
    return trial
