"""The hook for every run with a tuned backbone."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from protuning_mm.backbones import tuned_backbones
from protuning_mm.backbones.hosts import LOADED
from protuning_mm.engine.followers import Follower, find_followers
from protuning_mm.engine.load_from import drop_reshaped, fill_copies
from protuning_mm.engine.parameter_table import count_parameters
from protuning_mm.engine.preflight import check_before_testing, check_before_training, check_frozen_weights
from protuning_mm.engine.resumable import check_resumable
from protuning_mm.engine.unwrap import unwrap
from protuning_mm.frozen import report
from protuning_mm.registry import HOOKS
from protuning_mm.weights.addresses import FROZEN_SOURCES, read_frozen_sources


@HOOKS.register_module()
class TuningHook(Hook):
    """Checks a run before it starts, logs its parameters, and keeps copies of a backbone equal to the original.

    - After loading a checkpoint by ``load_from``: tensors of heads whose shape differs from the model's, as when
      ``num_classes`` differs, are logged and keep their initial values (:mod:`protuning_mm.engine.load_from`). A
      checkpoint to resume from must contain a training state.
    - Before training, validation and test: the checks of :mod:`protuning_mm.engine.preflight`. Before training, the
      hook also logs the table of trained and frozen parameters, and which modules of the backbone run efficiently.
    - At every save: the sources of frozen tensors are stored in the checkpoint's ``meta``.
    - A backbone that follows another one, such as a mean teacher, gets the other's frozen tensors at the start and the
      end, before each validation and save and, if the trained model contains it, before each iteration
      (:mod:`protuning_mm.engine.followers`).

    Raises:
        CheckpointError: the checkpoint to resume from holds no training state.
        FrozenWeightsError: frozen tensors are random, and ``allow_random_backbone`` is not set.
        MismatchError: classes of data sets and heads differ, or an evaluator fails on fake predictions.
    """

    priority = 'HIGH'

    def __init__(self) -> None:
        self._sources: dict[str, Any] = {}
        self._followers: list[Follower] = []

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        if runner._resume:
            check_resumable(checkpoint)
            self._sources = read_frozen_sources(checkpoint)
            return
        state = checkpoint.get('state_dict', checkpoint)
        fill_copies(unwrap(runner.model), state)
        reshaped = drop_reshaped(unwrap(runner.model), state)
        if reshaped:
            lines = '\n  '.join(f'{key}: {shapes}' for key, shapes in reshaped.items())
            runner.logger.info(
                f'{len(reshaped)} tensors have another shape in the checkpoint, as when num_classes differs; they '
                f'keep their initial values:\n  {lines}'
            )

    def before_train(self, runner: Runner) -> None:
        self._followers = find_followers(runner)
        self._restore_frozen()
        for each in self._followers:
            each.backbone.frozen_source = each.leader.frozen_source
            each.backbone.frozen_prefix = each.leader.frozen_prefix
            if each.in_model:
                runner.logger.info(
                    f'{each.name} follows {each.leader_name} ({each.rule}): its frozen tensors are kept equal'
                )
        check_frozen_weights(runner.model)
        self._name_sources(runner)
        check_before_training(runner)
        runner.logger.info('Parameters:\n' + str(count_parameters(runner.model, runner.optim_wrapper)))
        for name, backbone in tuned_backbones(unwrap(runner.model)).items():
            if backbone.ignored_args:
                listed = ', '.join(f'{key}={value}' for key, value in backbone.ignored_args.items())
                runner.logger.info(f'{name}: {listed} from the config has no effect: the tuning decides what is frozen')
            if backbone.efficient_frozen:
                runner.logger.info(f'{name}, frozen execution:\n{report(backbone.plain)}')

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self._restore_frozen(in_model=True)

    def after_train(self, runner: Runner) -> None:
        self._restore_frozen()

    def before_val(self, runner: Runner) -> None:
        self._restore_frozen()
        check_frozen_weights(runner.model)

    def before_test(self, runner: Runner) -> None:
        check_frozen_weights(runner.model)
        check_before_testing(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        self._restore_frozen()
        for each in self._followers:
            each.write_frozen_into(checkpoint.get('state_dict', {}))
        checkpoint['meta'][FROZEN_SOURCES] = {
            name: (each.frozen_source, each.frozen_prefix)
            for name, each in tuned_backbones(unwrap(runner.model)).items()
        }

    def _restore_frozen(self, in_model: bool = False) -> None:
        """Restore the frozen tensors of all followers; with ``in_model``, only of those in the trained model."""
        for each in self._followers:
            if each.in_model or not in_model:
                each.restore_frozen()

    def _name_sources(self, runner: Runner) -> None:
        """Record the file that each backbone was loaded from, which a model cannot know from a state dict."""
        for name, backbone in tuned_backbones(unwrap(runner.model)).items():
            if backbone.frozen_source != LOADED:
                continue
            if runner._resume and name in self._sources:
                backbone.frozen_source, backbone.frozen_prefix = self._sources[name]
            elif runner._load_from is not None:
                backbone.frozen_source, backbone.frozen_prefix = str(runner._load_from), name or None
