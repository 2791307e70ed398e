"""What a training step costs: peak memory, what is kept for the backward pass, and time."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

MIB = 2**20


def peak_memory(step: Callable[[], Any], device: torch.device) -> float:
    """How much a step allocates at its peak beyond what was there, in MiB.

    On CUDA the allocator tells; on a CPU the profiler's memory events are summed, and Python's garbage collector rests
    meanwhile: when it comes by depends on all that ran before. The step runs once before, so that caches (folded
    weights, oneDNN's) do not count as the step's.
    """
    step()
    gc.collect()
    if device.type == 'cuda':
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / MIB
    collecting = gc.isenabled()
    gc.disable()
    try:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            step()
    finally:
        if collecting:
            gc.enable()
    return peak_of_events(profiler) / MIB


def peak_of_events(profiler: Any) -> int:
    """The most bytes that were allocated at once on the CPU while a profiler watched memory."""
    events = profiler.profiler.kineto_results.events()
    now = most = 0
    for event in sorted((e for e in events if e.name() == '[memory]'), key=lambda e: e.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


def kept_memory(forward: Callable[[], Any], module: nn.Module) -> float:
    """How much a forward pass keeps for the backward pass, in MiB; the module's own tensors do not count."""
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
    """The same by what keeps it: name of the graph's node (``AddmmBackward0``, …) -> MiB.

    What several nodes keep together counts for the one nearest to the outputs. What a hidden part of a node holds (a
    fused attention's) counts as far as it is shown.
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
    """Run everything in turn, ``rounds`` times after a first that does not count.

    Args:
        runs (Mapping): Name -> what runs once and tells the seconds of its parts.
        rounds (int): How often.

    Returns:
        dict: name -> part -> its seconds, round by round.
    """
    found: dict[str, dict[str, list[float]]] = {name: {} for name in runs}
    for i in range(rounds + 1):
        for name, run in runs.items():
            parts = run()
            for part, seconds in parts.items() if i else ():
                found[name].setdefault(part, []).append(seconds)
    return found


def median_ratio(times: list[float], base: list[float]) -> float:
    """The median of the ratios round by round: what slows the whole machine falls out."""
    return statistics.median(a / b for a, b in zip(times, base))


class Stopwatch:
    """Seconds since the last look, when the device has finished."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.look()

    def look(self) -> float:
        """Seconds since the last look."""
        if self.device.type == 'cuda':
            torch.cuda.synchronize()
        now = time.perf_counter()
        seconds = now - getattr(self, '_last', now)
        self._last = now
        return seconds
