"""Measures the step time and the peak memory of a run."""

import statistics
import time
from typing import Any

import torch
from mmengine.hooks import Hook
from torch import Tensor

from protuning_mm.engine.measure import MIB, peak_memory


class WatchingHook(Hook):
    """Times every training step, keeps the first batch, and records the metrics of each validation.

    A step goes from the loaded batch to the optimizer's update. Loading does not count.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.validations: list[dict[str, Any]] = []
        self.batch: Any = None
        self.cuda_peak: float | None = None
        self._start = 0.0

    def before_train(self, runner: Any) -> None:
        _forget_peak()

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        if self.batch is None:
            self.batch = data_batch
        self._start = _now()

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.steps.append(_now() - self._start)

    def after_train_epoch(self, runner: Any) -> None:
        self._note_peak()

    def before_val(self, runner: Any) -> None:
        self._note_peak()

    def after_val(self, runner: Any) -> None:
        _forget_peak()  # the memory of validation does not count

    def _note_peak(self) -> None:
        if torch.cuda.is_available():
            self.cuda_peak = max(self.cuda_peak or 0.0, torch.cuda.max_memory_allocated() / MIB)

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        self.validations.append(dict(step=runner.iter, **(metrics or {})))

    @property
    def step_time(self) -> float | None:
        """Median seconds of a step, without the first if there are several."""
        return statistics.median(self.steps[1:] or self.steps) if self.steps else None


def memory_of_training(runner: Any, watched: WatchingHook) -> float | None:
    """Return the peak memory of training in MiB: weights, optimizer state, gradients and saved activations.

    On CUDA this is the allocator's peak during training. On a CPU, whose allocator reports no peak, torch's profiler
    measures one more training step on the first batch, and the sizes of model and optimizer state are added. That step
    changes the weights, so call this last.
    """
    if watched.cuda_peak is not None:
        return watched.cuda_peak
    if watched.batch is None:
        return None
    model, wrapper = runner.model, runner.optim_wrapper
    model.train()
    peak = peak_memory(lambda: model.train_step(watched.batch, optim_wrapper=wrapper), torch.device('cpu'))
    return peak + _held(model, wrapper) / MIB


def _held(model: Any, wrapper: Any) -> int:
    wrappers = list(wrapper.values()) if hasattr(wrapper, 'optim_wrappers') else [wrapper]
    states = [value for each in wrappers for state in each.optimizer.state.values() for value in state.values()]
    tensors = [*model.parameters(), *model.buffers(), *(value for value in states if isinstance(value, Tensor))]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def _forget_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
