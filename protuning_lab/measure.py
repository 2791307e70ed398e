"""Measurement of a training step: peak memory, memory saved for the backward pass, and time."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from protuning_mm.doctor.trial_step import measure_peak

MIB = 2**20


def peak_memory(step: Callable[[], Any], device: torch.device) -> float:
    """Return the peak memory that a step allocates in addition to the memory in use before it, in MiB.

    CUDA's allocator reports the peak. On a CPU it is summed from the profiler's memory events, with Python's garbage
    collector disabled, because the time of its runs depends on what ran before; the largest of three steps counts,
    because whatever is freed within a step hides as much of its peak. The step runs once before the
    measurement, so that filling caches (folded weights, oneDNN) is not counted.
    """
    step()
    gc.collect()
    if device.type == 'cuda':
        return measure_peak(step, device) / MIB
    collecting = gc.isenabled()
    gc.disable()
    try:
        return max(measure_peak(step, device) for _ in range(3)) / MIB
    finally:
        if collecting:
            gc.enable()


def kept_memory(forward: Callable[[], Any], module: nn.Module) -> float:
    """Return the memory that a forward pass saves for the backward pass, without the module's own tensors, in MiB."""
    own = {t.untyped_storage().data_ptr() for t in (*module.parameters(), *module.buffers())}
    kept: dict[int, int] = {}

    def note(t: Tensor) -> Tensor:
        storage = t.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        held = forward()
    del held
    return sum(kept.values()) / MIB


def kept_by_operation(outs: Any, module: nn.Module) -> dict[str, float]:
    """Return the saved memory by operation: name of the autograd node (``AddmmBackward0``, …) -> MiB.

    Memory saved by several nodes counts for the node nearest to the outputs. Memory that a node does not expose (as a
    fused attention may do) is not counted.
    """
    seen = {t.untyped_storage().data_ptr() for t in (*module.parameters(), *module.buffers())}
    found: dict[str, float] = {}
    nodes = [out.grad_fn for out in outs if out.grad_fn is not None]
    visited = set(nodes)
    while nodes:
        node = nodes.pop(0)
        names = [name for name in dir(node) if name.startswith('_saved_')]
        saved = [getattr(node, name) for name in names] if names else getattr(node, 'saved_tensors', ())
        for t in saved:
            if isinstance(t, Tensor) and t.untyped_storage().data_ptr() not in seen:
                seen.add(t.untyped_storage().data_ptr())
                kind = type(node).__name__
                found[kind] = found.get(kind, 0) + t.untyped_storage().nbytes() / MIB
        for following, _ in node.next_functions:
            if following is not None and following not in visited:
                visited.add(following)
                nodes.append(following)
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def interleaved_times(
    runs: Mapping[str, Callable[[], Mapping[str, float]]], rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Time several functions by calling them alternately, after a warm-up round that is not counted.

    Args:
        runs (Mapping): Name -> function that runs once and returns part -> seconds.
        rounds (int): Number of counted rounds.

    Returns:
        dict: Name -> part -> list of seconds, one per round.
    """
    found: dict[str, dict[str, list[float]]] = {name: {} for name in runs}
    for i in range(rounds + 1):
        for name, run in runs.items():
            parts = run()
            for part, seconds in parts.items() if i else ():
                found[name].setdefault(part, []).append(seconds)
    return found


def median_ratio(times: list[float], base: list[float]) -> float:
    """Return the median of the ratios per round, in which a slowdown of the whole machine cancels out."""
    return statistics.median(a / b for a, b in zip(times, base))


class Stopwatch:
    """Measures time between calls of :meth:`look`, including work that the device still has to finish."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.look()

    def look(self) -> float:
        """Wait for the device, and return the seconds since the last call."""
        if self.device.type == 'cuda':
            torch.cuda.synchronize()
        now = time.perf_counter()
        seconds = now - getattr(self, '_last', now)
        self._last = now
        return seconds
