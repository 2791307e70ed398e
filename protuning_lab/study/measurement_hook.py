"""Measures step time and peak memory of a run."""

import statistics
import time
from typing import Any

import torch
from mmengine.hooks import Hook
from torch import Tensor

from protuning_lab.measure import MIB, peak_memory


class MeasurementHook(Hook):
    """Times every training step, keeps the first batch, and records the metrics of each validation.

    The time of a step includes forward, backward and the optimizer's update, but not data loading.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.validations: list[dict[str, Any]] = []
        self.batch: Any = None
        self.cuda_peak: float | None = None
        self._start = 0.0

    def before_train(self, runner: Any) -> None:
        _reset_peak()

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        if self.batch is None:
            self.batch = data_batch
        self._start = _synchronized_time()

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.steps.append(_synchronized_time() - self._start)

    def after_train_epoch(self, runner: Any) -> None:
        self._record_peak()

    def before_val(self, runner: Any) -> None:
        self._record_peak()

    def after_val(self, runner: Any) -> None:
        _reset_peak()  # memory of validation does not count

    def _record_peak(self) -> None:
        if torch.cuda.is_available():
            self.cuda_peak = max(self.cuda_peak or 0.0, torch.cuda.max_memory_allocated() / MIB)

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        self.validations.append(dict(step=runner.iter, **(metrics or {})))

    @property
    def step_time(self) -> float | None:
        """Median seconds per step, without the first step if there are several."""
        return statistics.median(self.steps[1:] or self.steps) if self.steps else None


def measure_training_memory(runner: Any, hook: MeasurementHook) -> float | None:
    """Return the peak memory of training in MiB: weights, optimizer state, gradients and saved activations.

    On CUDA, this is the allocator's peak during training. A CPU allocator reports no peak; there, torch's profiler
    measures one more training step on the first batch, and the sizes of the model and of the optimizer state are added.
    This step changes the weights, so call this function last.

    Args:
        runner (Runner): A runner that has finished training.
        hook (MeasurementHook): The hook that was registered with it.

    Returns:
        float: MiB. None if no step was trained.
    """
    if hook.cuda_peak is not None:
        return hook.cuda_peak
    if hook.batch is None:
        return None
    model, wrapper = runner.model, runner.optim_wrapper
    model.train()
    peak = peak_memory(lambda: model.train_step(hook.batch, optim_wrapper=wrapper), torch.device('cpu'))
    return peak + _persistent_bytes(model, wrapper) / MIB


def _persistent_bytes(model: Any, wrapper: Any) -> int:
    """Return the bytes of parameters, buffers and optimizer state."""
    wrappers = list(wrapper.values()) if hasattr(wrapper, 'optim_wrappers') else [wrapper]
    states = [value for each in wrappers for state in each.optimizer.state.values() for value in state.values()]
    tensors = [*model.parameters(), *model.buffers(), *(value for value in states if isinstance(value, Tensor))]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def _reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _synchronized_time() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
