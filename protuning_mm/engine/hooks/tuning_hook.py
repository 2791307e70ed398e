"""What is checked and said once a run, when every weight is in place and nothing is computed yet."""

from time import perf_counter
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from protuning_mm.backbones import tuned_backbones
from protuning_mm.backbones.tuned_backbone import LOADED
from protuning_mm.engine.class_check import check_classes, num_classes_of
from protuning_mm.engine.errors import MismatchError
from protuning_mm.engine.evaluator_trial import Trial, try_evaluator
from protuning_mm.engine.faked_predictions import predicts_masks
from protuning_mm.engine.followers import Follower, averaged_copies, find_followers
from protuning_mm.engine.models import unwrap
from protuning_mm.engine.monitored_metrics import unknown_metrics
from protuning_mm.engine.parameter_table import count_parameters
from protuning_mm.engine.resumable import check_resumable
from protuning_mm.frozen import report
from protuning_mm.registry import HOOKS
from protuning_mm.weights import FrozenWeightsError
from protuning_mm.weights.addresses import SOURCES, said_sources


@HOOKS.register_module()
class TuningHook(Hook):
    """Refuses to run on a random frozen backbone, and shows what is trained.

    - after a checkpoint is loaded (``load_from``, not ``resume``): head tensors whose shape differs from the model's,
      as they do where ``num_classes`` differs, are listed and left at their initial values. The backbone is strict.
      After ``resume``: a checkpoint without a training state stops the run.
    - before training: frozen tensors that came from no file stop the run (unless ``allow_random_backbone=True``);
      classes of the data sets that do not match the heads stop it, and an evaluator that fails on made-up predictions
      or lacks the metric that picks the best checkpoint; then the table of trained and frozen parameters, and what of
      the backbone runs efficiently.
    - at every save: where the frozen tensors came from goes into the checkpoint's ``meta``.
    - a backbone that follows another by rule (a mean teacher, BYOL's target, EMAHook's average) starts with that one's
      frozen tensors, and gets them back before each iteration, validation and save: averages round.
    - before validation and test: a random frozen backbone stops the run too; before test, an evaluator that fails.
    """

    priority = 'HIGH'

    def __init__(self) -> None:
        self._sources: dict[str, Any] = {}
        self._followers: list[Follower] = []

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        if runner._resume:
            check_resumable(checkpoint)
            self._sources = said_sources(checkpoint)
            return
        state = checkpoint.get('state_dict', checkpoint)
        _fill_copies(runner.model, state)
        here = unwrap(runner.model).state_dict()
        plain = _plain_keys(runner.model)
        changed = [
            f'{key}: {_shape(state[key])} there, {_shape(here[key])} here'
            for key in list(state)
            if key in here and key not in plain and _shape(state[key]) != _shape(here[key])
        ]
        for line in changed:
            del state[line.split(': ')[0]]
        if changed:
            listed = '\n  '.join(changed)
            runner.logger.info(
                f'{len(changed)} tensors of the checkpoint have another shape here, as where '
                f'num_classes differs, and start anew:\n  {listed}'
            )

    def _put_back(self) -> None:
        for follower in self._followers:
            follower.put_back()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        for follower in self._followers:
            if follower.in_model:
                follower.put_back()

    def after_train(self, runner: Runner) -> None:
        self._put_back()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        self._put_back()
        state = checkpoint.get('state_dict', {})
        for follower in self._followers:  # what was copied from a GPU already
            if follower.in_model:
                follower.put_into(state)
        checkpoint['meta'][SOURCES] = {
            name: (each.frozen_source, each.frozen_prefix)
            for name, each in tuned_backbones(unwrap(runner.model)).items()
        }

    def _name_sources(self, runner: Runner) -> None:
        """Say which file filled a backbone: a model that is given a state dict cannot know."""
        for name, backbone in tuned_backbones(unwrap(runner.model)).items():
            if backbone.frozen_source != LOADED:
                continue
            if runner._resume and name in self._sources:
                backbone.frozen_source, backbone.frozen_prefix = self._sources[name]
            elif runner._load_from is not None:
                backbone.frozen_source, backbone.frozen_prefix = str(runner._load_from), name or None

    def before_train(self, runner: Runner) -> None:
        self._followers = find_followers(runner)
        for each in self._followers:
            each.begin()
            if each.in_model:
                runner.logger.info(
                    f'{each.name} follows {each.leader_name} ({each.rule}): its frozen tensors are kept equal'
                )
        self._check_frozen(runner.model)
        self._name_sources(runner)
        check_classes(unwrap(runner.model), runner.train_dataloader.dataset, 'train_dataloader')
        if runner.val_loop is not None:
            check_classes(unwrap(runner.model), runner.val_dataloader.dataset, 'val_dataloader')
            trial = self._try_evaluator(runner, runner.val_loop, 'val')
            for key, found, advice in unknown_metrics(runner.cfg, trial, 'val_evaluator'):
                raise MismatchError(f'{key}: {found}: {advice}')
        runner.logger.info('Parameters:\n' + str(count_parameters(runner.model, runner.optim_wrapper)))
        for name, backbone in tuned_backbones(unwrap(runner.model)).items():
            ignored = backbone.ignored_args
            if ignored:
                listed = ', '.join(f'{key}={value}' for key, value in ignored.items())
                runner.logger.info(f'{name}: {listed} from the config has no effect: the tuning owns freezing')
            if backbone.efficient_frozen:
                runner.logger.info(f'{name}, frozen execution:\n{report(backbone.plain)}')

    def before_val(self, runner: Runner) -> None:
        self._put_back()
        self._check_frozen(runner.model)

    def before_test(self, runner: Runner) -> None:
        self._check_frozen(runner.model)
        check_classes(unwrap(runner.model), runner.test_dataloader.dataset, 'test_dataloader')
        self._try_evaluator(runner, runner.test_loop, 'test')

    @staticmethod
    def _try_evaluator(runner: Runner, loop: Any, split: str) -> Trial:
        """Let the evaluator compute its metrics once, before all the work that it would end."""
        start = perf_counter()
        model, dataset = unwrap(runner.model), loop.dataloader.dataset
        evaluator = getattr(loop, 'evaluator', None)
        key = f'{split}_evaluator'
        trial = try_evaluator(evaluator, dataset, key, num_classes_of(model), predicts_masks(model))
        for note in trial.untried:
            runner.logger.info(f'not tried before the run: {note}')
        if trial.metrics:
            runner.logger.info(f'{key} was tried on made-up predictions, {perf_counter() - start:.1f} s')
        return trial

    @staticmethod
    def _check_frozen(model: nn.Module) -> None:
        for name, backbone in tuned_backbones(unwrap(model)).items():
            if backbone.needs_weights():
                raise FrozenWeightsError(
                    f'the frozen tensors of {name} ({type(backbone).__name__}) came from no file: they are random, '
                    "and nothing will train them. Set model.backbone.init_cfg=dict(type='Pretrained', "
                    "checkpoint='torchvision://resnet50') or load_from=<a whole checkpoint>; if a random backbone is "
                    'what you want, say model.backbone.allow_random_backbone=True.'
                )


def _fill_copies(model: nn.Module, state: dict[str, Any]) -> None:
    """Let a checkpoint without a copy of a backbone, as any pre-trained one is, fill the copy like the backbone."""
    backbones = tuned_backbones(unwrap(model))
    for name, leader in averaged_copies(unwrap(model)).items():
        for key in backbones[name].plain_keys:
            if f'{leader}.{key}' in state:
                state.setdefault(f'{name}.{key}', state[f'{leader}.{key}'])


def _shape(value: Any) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None


def _plain_keys(model: nn.Module) -> set[str]:
    backbones = tuned_backbones(unwrap(model))
    return {f'{name}.{key}' if name else key for name, each in backbones.items() for key in each.plain_keys}
