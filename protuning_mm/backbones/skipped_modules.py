"""Forward passes in which modules are skipped: each returns what is given, or NaNs of the recorded shape."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map


@dataclass(frozen=True)
class Blank:
    """A tensor of which only type and shape are known; nothing may depend on its values.

    Args:
        dtype (torch.dtype): Its type.
        shape (tuple[int]): Its shape.
        images (int): Number N of images in the pass in which it was recorded.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    images: int

    def fill(self, images: int, device: torch.device) -> Tensor:
        """Return a tensor for another number of images, full of NaNs so that a use of its values is noticed.

        It takes the memory of one element.
        """
        shape = list(self.shape)
        if shape and shape[0] % self.images == 0:
            shape[0] = shape[0] // self.images * images
        value = float('nan') if self.dtype.is_floating_point else 0
        return torch.full((), value, dtype=self.dtype, device=device).expand(shape)


@dataclass
class _Call:
    path: str
    parent: '_Call | None'
    output: Any = None
    is_before: bool = False  # whether it ended before the first stage began


def record_outputs(
    network: nn.Module, run: Callable[[Tensor], Any], image: Tensor, stages: Sequence[str], ignored: Sequence[str]
) -> dict[str, Any]:
    """Run a network and record what the modules of stages, and those before the first stage, return.

    Args:
        network (nn.Module): The network.
        run (Callable): Its forward.
        image (Tensor): (N, 3, H, W).
        stages (Sequence[str]): Paths of the stages' modules, in order.
        ignored (Sequence[str]): Names of children that do not belong to the network.

    Returns:
        dict: Path -> output, with a :class:`Blank` for each tensor. Of modules before the first stage, only the
        outermost ones are contained, and none that runs more than once. A stage's module is missing if it does not run
        exactly once.
    """
    calls: list[_Call] = []
    running: list[_Call] = []
    started = False

    def enter(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            nonlocal started
            started = started or path == stages[0]
            calls.append(_Call(path, running[-1] if running else None))
            running.append(calls[-1])

        return hook

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        call = running.pop()
        call.output = tree_map(lambda x: _blank(x, len(image)), output)
        call.is_before = not started

    with ExitStack() as hooks:
        for path, module in network.named_modules():
            if path and path.partition('.')[0] not in ignored:
                hooks.callback(module.register_forward_pre_hook(enter(path)).remove)
                hooks.callback(module.register_forward_hook(leave).remove)
        run(image)
    paths = [call.path for call in calls]
    return {
        call.path: call.output
        for call in calls
        if paths.count(call.path) == 1
        and (call.path in stages or (call.is_before and not (call.parent is not None and call.parent.is_before)))
    }


def _blank(value: Any, images: int) -> Any:
    return Blank(value.dtype, tuple(value.shape), images) if isinstance(value, Tensor) else value


@contextmanager
def skip_modules(
    network: nn.Module, outputs: Mapping[str, Any], given: Mapping[str, Tensor], images: int, device: torch.device
) -> Iterator[None]:
    """Let modules return recorded outputs in the place of running. Their forward hooks run.

    Args:
        network (nn.Module): The network.
        outputs (Mapping): Path -> output, of :func:`record_outputs`.
        given (Mapping): Path -> the tensor that the module returns, for modules whose values are needed.
        images (int): Number of images.
        device (torch.device): Device of the tensors.
    """
    with ExitStack() as stack:
        for path, output in outputs.items():
            made = given.get(path)
            if made is None:
                made = tree_map(lambda x: x.fill(images, device) if isinstance(x, Blank) else x, output)
            stack.enter_context(_returning(network.get_submodule(path), made))
        yield


@contextmanager
def _returning(module: nn.Module, output: Any) -> Iterator[None]:
    """Let a module's forward return ``output``."""
    attributes = module.__dict__  # an efficient forward may be there already
    own = attributes.get('forward')
    attributes['forward'] = lambda *args, **kwargs: output
    try:
        yield
    finally:
        if own is None:
            del attributes['forward']
        else:
            attributes['forward'] = own
