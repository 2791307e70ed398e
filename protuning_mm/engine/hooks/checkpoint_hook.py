"""A checkpoint hook that removes an old checkpoint only after the next one is complete."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from mmengine.logging import MessageHub
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from protuning_mm.engine.hooks.exact_resume_hook import ExactResumeHook
from protuning_mm.engine.hooks.unfinished_validation import UnfinishedValidationHook
from protuning_mm.engine.resume_limits import NOT_VALIDATED
from protuning_mm.registry import HOOKS
from protuning_mm.version import __version__
from protuning_mm.weights.atomic import AtomicLocalBackend, write_atomically
from protuning_mm.weights.checksum import WRITER_VERSION
from protuning_mm.weights.resumed_files import OUTDATED, OUTDATED_BEST

_ATOMIC = dict(backend='atomic_local')


class _RemoveLater:
    """A file backend that removes nothing, but records in the message hub what to remove after the new file is written.

    Args:
        backend (BaseStorageBackend | FileClient): The backend that does everything else.
        hub (MessageHub): The run's message hub, which is saved in the new file.
    """

    def __init__(self, backend: Any, hub: MessageHub) -> None:
        self._backend = backend
        self._hub = hub
        self.paths: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        self.paths.append(path)
        self._hub.update_info(OUTDATED_BEST, [Path(each).name for each in self.paths])

    rmtree = remove


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """mmengine's CheckpointHook in a safe order: write a temporary file, sync, rename, update the pointer, then delete.

    mmengine deletes the oldest checkpoint first and writes the next in place. If the disk is full or the process is
    killed in between, a truncated file is left, and with ``max_keep_ckpts=1`` no other. All arguments are mmengine's.
    Only local folders are written atomically; other backends (``backend_args`` for S3, …) write as usual, but in the
    safe order.
    """

    backend_args: dict[str, Any] | None
    file_backend: Any
    _saving = False

    def before_run(self, runner: Runner) -> None:
        if not any(isinstance(hook, UnfinishedValidationHook) for hook in runner.hooks):
            runner.register_hook(UnfinishedValidationHook())

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        if self.backend_args is None and type(self.file_backend) is LocalBackend:
            self.backend_args = dict(_ATOMIC)
            self.file_backend = AtomicLocalBackend()
        # A run killed between save and delete left outdated files; the resumed checkpoint records their names.
        outdated = runner.message_hub.runtime_info.get(OUTDATED)
        if self.max_keep_ckpts > 0 and outdated not in (None, *self.keep_ckpt_ids):
            self._delete(outdated)
        for name in runner.message_hub.runtime_info.pop(OUTDATED_BEST, None) or []:
            self._remove(self.file_backend.join_path(self.out_dir, name))

    def _save_checkpoint(self, runner: Runner) -> None:
        # Only a loop of the same kind (by epoch or by iteration) validates directly after this save.
        kind = EpochBasedTrainLoop if self.by_epoch else IterBasedTrainLoop
        runner.message_hub.update_info(NOT_VALIDATED, isinstance(runner.train_loop, kind))
        super()._save_checkpoint(runner)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        outdated = self._roll(runner, step)
        filename = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, filename)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        with self._own_save(runner):
            runner.save_checkpoint(
                self.out_dir,
                filename,
                self.file_client_args,
                save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
                meta=meta,
                by_epoch=self.by_epoch,
                backend_args=self.backend_args,
                **self.args,
            )
        if not is_main_process():
            return
        write_atomically(str(self.last_ckpt).encode(), f'{runner.work_dir}/last_checkpoint')
        if outdated is not None:
            self._delete(outdated)

    def _delete(self, step: int) -> None:
        self._remove(self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(step)))

    def _remove(self, path: str) -> None:
        if not is_main_process():
            return
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):  # deepspeed's checkpoints are folders
            self.file_backend.rmtree(path)

    def _roll(self, runner: Runner, step: int) -> int | None:
        """Add ``step`` to the kept checkpoints; return the step to delete after the save, if any."""
        if self.max_keep_ckpts <= 0 or (self.keep_ckpt_ids and self.keep_ckpt_ids[-1] == step):
            return None
        full = len(self.keep_ckpt_ids) == self.max_keep_ckpts
        outdated = self.keep_ckpt_ids.popleft() if full else None
        self.keep_ckpt_ids.append(step)
        runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        runner.message_hub.update_info(OUTDATED, outdated)
        return outdated

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, Any]) -> None:
        if not self.save_best:
            return
        runner.message_hub.update_info(NOT_VALIDATED, False)
        backend, hub = self.file_backend, runner.message_hub
        outdated = self.file_backend = _RemoveLater(backend, hub)
        try:
            with self._own_save(runner):
                super()._save_best_checkpoint(runner, metrics)
        finally:
            self.file_backend = backend
        # The new best checkpoint may have the same file name as the old one, if a step ran twice.
        best = {getattr(self, 'best_ckpt_path', None), *getattr(self, 'best_ckpt_path_dict', {}).values()}
        for path in outdated.paths:
            if path not in best:
                self._remove(path)
        hub.update_info(OUTDATED_BEST, [])

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        if self._saving and self.backend_args == _ATOMIC:
            checkpoint['meta'][WRITER_VERSION] = __version__

    @contextmanager
    def _own_save(self, runner: Runner) -> Iterator[None]:
        """Prepare a save by this hook.

        Mark it, because ``before_save_checkpoint`` is also called for saves by other hooks. Collect the random states
        of all ranks before the main process saves alone.
        """
        with ExitStack() as stack:
            stack.callback(setattr, self, '_saving', self._saving)
            self._saving = True
            for hook in runner.hooks:
                if isinstance(hook, ExactResumeHook):
                    stack.enter_context(hook.gathered())
            yield
