"""A frozen convolution and the batch norm after it, folded into one convolution.

With the norm's affine parameters γ, β, its statistics μ, σ², and s = γ / √(σ² + ε): W' = s W and b' = s (b − μ) + β.
The modules keep their own tensors. The folded tensors are a cache, which is computed anew whenever those change.
"""

from collections import defaultdict, deque
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from protuning_mm.frozen.conv import ConvOp, norm_scale, unfolded
from protuning_mm.frozen.relu_mask import INTEGERS, same_words

# Number of weight elements that are folded and compared at once, chosen to fit into a CPU's cache.
_CHUNK = 1 << 17


class StaleWeightsError(RuntimeError):
    """A forward pass used outdated folded weights, because a change of the frozen weights was not noticed in time."""


class FoldedConv:
    """A Conv2d and the batch norm after it, in eval mode, as one :class:`ConvOp`.

    If the weights are stored in half precision, the norm is not folded: rounding s W loses more accuracy than the
    rounding between convolution and norm, which folding avoids. Under autocast, float32 weights are folded in float32
    and then rounded.

    On a CPU, each use folds again piece by piece and compares every bit with the cache, because writes through
    ``.data`` or numpy do not increase the version counter. The comparison needs no copy of the weights and reads each
    weight once.

    On a GPU, waiting for the result of a comparison would stall the step. There the cache is used as long as storage,
    version and dtype of every tensor are unchanged. The comparison runs asynchronously; its result is read at a later
    use or by :meth:`verify`.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Discard the folded weights and the pending comparisons."""
        self._folded: dict[torch.dtype, _Folded] = {}
        self._running: deque[_Comparison] = deque()

    def __call__(self, conv: nn.Conv2d, norm: Any, dtype: torch.dtype) -> ConvOp:
        """Return the folded convolution, from the cache if it is current.

        Args:
            conv (nn.Conv2d): The convolution.
            norm (nn.Module, optional): The batch norm, in eval mode.
            dtype (torch.dtype): Dtype of the result, so that autocast's cast is cached as well.

        Raises:
            StaleWeightsError: an earlier use, on a GPU, used outdated folded weights.
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
        """Read the results of asynchronous comparisons.

        Args:
            wait (bool): Whether to wait for comparisons that are still running. Defaults to True.

        Raises:
            StaleWeightsError: an earlier use used outdated folded weights.
        """
        while (oldest := self._next(wait)) is not None:
            if oldest.found_difference():
                self.forget()
                raise StaleWeightsError(
                    'frozen weights were written through .data or a view of their memory, which does not increase '
                    'their version counter, and the network ran with the old weights. Call '
                    'protuning_mm.frozen.refold(model) after such a write, or write inside torch.no_grad() without '
                    '.data'
                )

    def _next(self, wait: bool) -> '_Comparison | None':
        try:  # another thread may have taken the last one
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
        if not (conv.weight.is_cuda and torch.cuda.is_current_stream_capturing()):
            self._running.append(_Comparison(found.differs_from(conv, norm)))
        return True


class FoldCache(defaultdict[Any, FoldedConv]):
    """The folded convolutions of one module, by name or position. Unlike a dict, it supports weak references."""


class _Folded(NamedTuple):
    """Folded weights and the inputs that they were computed from.

    Args:
        weight, bias (Tensor): W' and b'.
        scale (Tensor, optional): s, (C_out, 1, 1, 1); None without a norm.
        vectors (Tensor): Bias, statistics and affine parameters at the time of folding, concatenated.
        settings (tuple): Everything but tensor values that the result depends on.
        identities (list): Identity of each input tensor; empty on a CPU, where values are compared instead.
        views (list[Tensor]): Views that keep the input storages alive, so that their addresses are not reused.
    """

    weight: Tensor
    bias: Tensor | None
    scale: Tensor | None
    vectors: Tensor
    settings: tuple[Any, ...]
    identities: list[tuple[Any, ...]]
    views: list[Tensor]

    def has_values_of(self, conv: nn.Conv2d, norm: Any) -> bool:
        """Return whether folding now would give the same result, bit for bit."""
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
        """Return whether folding now would give another result, as a bool tensor on the weights' device."""
        vectors = _words(_vectors(conv, norm)) != _words(self.vectors)
        weights = _words(_scaled(conv.weight.detach(), self.scale, self.weight.dtype)) != _words(self.weight)
        return vectors.any() | weights.any()


class _Comparison:
    """A comparison whose result is being copied to the CPU."""

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
    """Return whether comparisons are read later, because waiting for the device costs more than comparing."""
    return weight.device.type != 'cpu'


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
    of_norm = None if norm is None else (norm.eps, norm.weight is None, norm.bias is None)
    return weight.dtype, weight.device, weight.shape, weight.stride(), conv.bias is None, of_norm


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
    """View a tensor as integers, so that NaN equals NaN and 0 differs from -0."""
    return t.view(INTEGERS[t.element_size()])
