"""A frozen convolution and the batch norm after it, folded into one convolution.

With γ, β, μ, σ² the norm's affine parameters and statistics, and s = γ / √(σ² + ε): W' = s W and b' = s (b − μ) + β.
The modules keep their own tensors; folded ones are a cache beside them, and are made anew whenever those change.
"""

from collections import deque
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from protuning_mm.frozen.conv import ConvOp, norm_scale, unfolded
from protuning_mm.frozen.relu_mask import same_words

# How many elements of a weight are folded at once to be compared: what a CPU's cache holds.
_CHUNK = 1 << 17
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class StaleWeightsError(RuntimeError):
    """Frozen weights were changed where it could not be seen in time, and the old ones were used."""


class FoldedConv:
    """Conv2d and, after it, a batch norm in eval mode, as one :class:`ConvOp`.

    Weights of two bytes are not folded: to round s W again costs more than the rounding between the two saves.

    On a CPU each use folds again, piece by piece, and compares every bit with the cache: what is written through
    ``.data`` or numpy raises no version. It needs no copy of the weights, and reads each of them once.

    On a GPU the result of a comparison would have to be waited for. There the cache is used while every tensor is the
    same by its storage, version and type. The comparison runs beside the step; its result is read at a later use, or by
    :meth:`verify`.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Drop what was folded, and what is still being compared."""
        self._folded: dict[torch.dtype, _Folded] = {}
        self._running: deque[_Comparison] = deque()

    def __call__(self, conv: nn.Conv2d, norm: Any, dtype: torch.dtype) -> ConvOp:
        """Fold, where that was not done already.

        Args:
            conv (nn.Conv2d): The convolution.
            norm (nn.Module, optional): The batch norm, in eval mode.
            dtype (torch.dtype): Of the result: autocast's cast is made once, too.

        Raises:
            StaleWeightsError: an earlier use, on a GPU, took weights that were no longer the module's.
        """
        if conv.weight.dtype == dtype and (norm is None or dtype.itemsize < 4):  # these alias the modules' tensors
            return unfolded(conv, norm)
        self.verify(wait=False)
        found = self._folded.get(dtype)
        if found is None or not self._is_current(found, conv, norm):
            with torch.no_grad(), torch.inference_mode(False):
                found = self._folded[dtype] = _fold(conv, norm, dtype)
        return unfolded(conv)._replace(weight=found.weight, bias=found.bias)

    def verify(self, wait: bool = True) -> None:
        """Read the results of comparisons that run beside the step.

        Args:
            wait (bool): Wait for those that are not there yet. Defaults to True.

        Raises:
            StaleWeightsError: an earlier use took weights that were no longer the module's.
        """
        while (oldest := self._next(wait)) is not None:
            if oldest.found_difference():
                self.forget()
                raise StaleWeightsError(
                    'frozen weights were written through .data or a view of their memory, which no version counter '
                    'sees, and the network ran on the old ones. Call protuning_mm.frozen.refold(model) after such a '
                    'write, or write inside torch.no_grad() and without .data'
                )

    def _next(self, wait: bool) -> '_Comparison | None':
        try:  # another thread may take it
            oldest = self._running.popleft()
        except IndexError:
            return None
        if wait or oldest.is_done():
            return oldest
        self._running.appendleft(oldest)
        return None

    def _is_current(self, found: '_Folded', conv: nn.Conv2d, norm: Any) -> bool:
        if found.settings != _settings(conv, norm):
            return False
        if not defers(conv.weight):
            return found.has_values_of(conv, norm)
        if found.identities != [_identity(t) for t in _tensors(conv, norm)]:
            return False
        if not _is_captured(conv.weight):
            self._running.append(_Comparison(found.differs_from(conv, norm)))
        return True


class _Folded(NamedTuple):
    """Folded weights and what they were made of.

    Args:
        weight, bias (Tensor): W' and b'.
        scale (Tensor, optional): s, in the shape of W'; None where there is no norm.
        vectors (Tensor): Biases, statistics and affine parameters as they were, one after the other.
        settings (tuple): What decides the result beside values.
        identities (list): Of each tensor; empty where values are compared at once.
        views (list[Tensor]): They keep a storage from being freed and its address from being used again.
    """

    weight: Tensor
    bias: Tensor | None
    scale: Tensor | None
    vectors: Tensor
    settings: tuple[Any, ...]
    identities: list[tuple[Any, ...]]
    views: list[Tensor]

    def has_values_of(self, conv: nn.Conv2d, norm: Any) -> bool:
        """Whether folding now would give the same, bit for bit."""
        if not torch.equal(_vectors(conv, norm), self.vectors):
            return False
        weight = conv.weight.detach()
        if weight.numel() <= _CHUNK:
            return same_words(_scaled(weight, self.scale, self.weight.dtype), self.weight)
        rows = max(1, _CHUNK // weight.shape[1:].numel())
        pieces = weight.split(rows)
        scales = [None] * len(pieces) if self.scale is None else self.scale.split(rows)
        return all(
            same_words(_scaled(piece, scale, old.dtype), old)
            for piece, scale, old in zip(pieces, scales, self.weight.split(rows))
        )

    def differs_from(self, conv: nn.Conv2d, norm: Any) -> Tensor:
        """Whether folding now would give something else, as a tensor on the weights' device: nothing waits for it."""
        vectors = _words(_vectors(conv, norm)) != _words(self.vectors)
        weights = _words(_scaled(conv.weight.detach(), self.scale, self.weight.dtype)) != _words(self.weight)
        return vectors.any() | weights.any()


class _Comparison:
    """A comparison whose result is on its way to the host."""

    def __init__(self, different: Tensor) -> None:
        self._different = different.to('cpu', non_blocking=True)
        self._event = None
        if different.is_cuda:
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(different.device))

    def is_done(self) -> bool:
        return self._event is None or self._event.query()

    def found_difference(self) -> bool:
        if self._event is not None:
            self._event.synchronize()
        return bool(self._different)


def defers(weight: Tensor) -> bool:
    """Whether a comparison's result is read later: to wait for the device would cost more than the comparison."""
    return weight.device.type != 'cpu'


def _is_captured(weight: Tensor) -> bool:
    return weight.is_cuda and torch.cuda.is_current_stream_capturing()


def _tensors(conv: nn.Conv2d, norm: Any) -> list[Tensor]:
    parts = [conv.weight, conv.bias]
    if norm is not None:
        parts += [norm.running_mean, norm.running_var, norm.weight, norm.bias]
    return [t for t in parts if t is not None]


def _vectors(conv: nn.Conv2d, norm: Any) -> Tensor:
    vectors = [t.detach() for t in _tensors(conv, norm)[1:]]
    return torch.cat(vectors) if vectors else conv.weight.new_empty(0)


def _settings(conv: nn.Conv2d, norm: Any) -> tuple[Any, ...]:
    weight = conv.weight
    there = None if norm is None else (norm.eps, norm.weight is None, norm.bias is None)
    return weight.dtype, weight.device, weight.shape, weight.stride(), conv.bias is None, there


def _identity(t: Tensor) -> tuple[Any, ...]:
    version = -1 if t.is_inference() else t._version
    return id(t), t.data_ptr(), version, t.dtype, t.device, t.shape, t.stride()


def _fold(conv: nn.Conv2d, norm: Any, dtype: torch.dtype) -> _Folded:
    exact = torch.promote_types(conv.weight.dtype, torch.float32)
    scale, bias = None, None if conv.bias is None else conv.bias.to(exact)
    if norm is not None:
        scale = norm_scale(norm).to(exact)
        bias = ((0 if bias is None else bias) - norm.running_mean.to(exact)) * scale
        if norm.bias is not None:
            bias = bias + norm.bias.to(exact)
        scale = scale.view(-1, 1, 1, 1)
    deferred = defers(conv.weight)
    return _Folded(
        weight=_scaled(conv.weight, scale, dtype).detach(),
        bias=None if bias is None else bias.detach().to(dtype),
        scale=scale,
        vectors=_vectors(conv, norm),
        settings=_settings(conv, norm),
        identities=[_identity(t) for t in _tensors(conv, norm)] if deferred else [],
        views=[t.detach() for t in _tensors(conv, norm)] if deferred else [],
    )


def _scaled(weight: Tensor, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    exact = weight if scale is None else weight.to(scale.dtype) * scale
    return exact.to(dtype)


def _words(t: Tensor) -> Tensor:
    """As integers: a NaN equals itself, and zeros of two signs do not."""
    return t.view(_INTEGERS[t.element_size()])
