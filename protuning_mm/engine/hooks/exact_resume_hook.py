"""A hook that saves and restores the random states and the position in the data."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from protuning_mm.engine.random_state import State, random_state, set_random_state
from protuning_mm.engine.resume_limits import resume_limits, sampler_of
from protuning_mm.engine.resumed_loader import ResumedIterator, ResumedLoader
from protuning_mm.registry import HOOKS

_KEY = 'resume_state'


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Makes a resumed run equal to an uninterrupted one, bit for bit on a CPU, by saving what mmengine does not save.

    - At every save: the random states of all ranks (used by the samplers of RPN and RoI heads, augmentation and
      dropout), the sampler's seed, and the number of batches of the epoch that were consumed, for an epoch-based run
      that saves by iteration.
    - Around validation: the random states are restored afterwards, because checkpoints are saved before validation and
      a resumed run need not repeat it.
    - After resuming: all of this is restored before the first batch is fetched.

    ``protuning_mm.CheckpointHook`` collects the states of several ranks. docs/resume.md lists the remaining limits.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._consumed = 0
        self._outside_validation: State | None = None
        self._ahead: State | None = None
        self._gathered: list[State] | None = None
        self._loaded: dict[str, Any] | None = None

    # saving

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Collect the states of all ranks for a save inside this context, which all ranks must enter."""
        self._gathered = all_gather_object(self._state())
        try:
            yield
        finally:  # the states must not be reused for a later save
            self._gathered = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        ranks = self._gathered or [self._state()]
        loader = getattr(runner.train_loop, 'dataloader', None)
        seed = None if loader is None else getattr(sampler_of(loader), 'seed', None)
        checkpoint[_KEY] = dict(ranks=ranks, consumed=self._consumed, sampler_seed=seed)

    def _state(self) -> State:
        return self._ahead or self._outside_validation or random_state()

    # keeping count

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            self._consumed += 1

    def after_train_epoch(self, runner: Runner) -> None:
        self._consumed = 0

    def before_val(self, runner: Runner) -> None:
        self._outside_validation = random_state()

    def after_val(self, runner: Runner) -> None:
        if self._outside_validation is not None:
            set_random_state(self._outside_validation)
        self._outside_validation = None

    # resuming

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        self._loaded = checkpoint.get(_KEY) if runner._resume else None

    def before_train(self, runner: Runner) -> None:
        if not runner._resume or runner.iter == 0:
            return
        reason = self._why_not_exact(runner)
        if reason is not None:
            runner.logger.warning(f'the run continues, but not exactly like the one that it resumes: {reason}')
            return
        assert self._loaded is not None
        state, loop = self._loaded['ranks'][get_rank()], runner.train_loop
        loader, seed = loop.dataloader, self._loaded['sampler_seed']
        sampler = sampler_of(loader)
        if hasattr(sampler, 'seed') and seed is not None:
            sampler.seed = seed
        self._ahead = state  # for checkpoints that a validation saves before the restore

        def restore() -> None:
            self._ahead = None
            set_random_state(state)
            loop.dataloader = loader

        limits = resume_limits(runner, self._loaded['consumed'])
        if limits:
            runner.logger.warning('resumed, but not exactly: ' + '; '.join(limits))
        if isinstance(loop, IterBasedTrainLoop):
            loop.dataloader_iterator = ResumedIterator(loader, restore)
        else:
            self._consumed = self._loaded['consumed']
            loop.dataloader = ResumedLoader(loader, self._consumed, restore)

    def _why_not_exact(self, runner: Runner) -> str | None:
        loop, world = runner.train_loop, get_world_size()
        if self._loaded is None:
            return 'the checkpoint has no random states, because it was saved without ExactResumeHook'
        if not isinstance(loop, EpochBasedTrainLoop | IterBasedTrainLoop):
            return f'the position of a {type(loop).__name__} in the data is unknown; it is known for loops of mmengine'
        ranks = len(self._loaded['ranks'])
        if ranks != world:
            return f'the checkpoint has the random states of {ranks} processes, but this run has {world}'
        consumed, batches = self._loaded['consumed'], len(loop.dataloader)
        if isinstance(loop, EpochBasedTrainLoop) and consumed > batches:
            return f'the checkpoint was saved after {consumed} batches of an epoch, but an epoch has only {batches}'
        return None
