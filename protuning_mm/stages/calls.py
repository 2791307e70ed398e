"""The calls of modules in one run of a network, and the sequences in which each gets the output of the one before."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm, _InstanceNorm
from torch import Tensor, nn

_NORMS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm)


@dataclass(eq=False)
class Call:
    """A call of a module in the trial run."""

    path: str
    module: nn.Module
    input: Any
    output: Any = None
    calls: list['Call'] = field(default_factory=list)
    # autograd nodes of input and output at the time of the call: a later operation in place gives a tensor another one
    input_node: Any = None
    output_node: Any = None

    def feeds(self, other: 'Call') -> bool:
        """Return whether another call got this one's output, unchanged."""
        return self.output is not None and other.input is self.output and other.input_node is self.output_node

    @property
    def has_weights(self) -> bool:
        return any(True for _ in self.module.parameters())

    @property
    def is_map(self) -> bool:
        """Whether the result has the dimensions of a feature map."""
        return isinstance(self.output, Tensor) and self.output.dim() == 4

    @property
    def is_norm(self) -> bool:
        if isinstance(self.module, _NORMS):
            return True
        return 'Norm' in type(self.module).__name__ and not any(self.module.children())


@torch.inference_mode(False)
@torch.enable_grad()
def record_calls(trial: nn.Module, image: Tensor) -> Call:
    """Run a network, whose modules get hooks, and return the call of the network itself.

    Args:
        trial (nn.Module): A copy that is used for nothing else.
        image (Tensor): (N, 3, H, W). If it requires a gradient, changes in place and detours are found.
    """
    root = Call('', trial, image)
    running = [root]

    def enter(path: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        call = Call(path, module, next((x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)), None))
        call.input_node = getattr(call.input, 'grad_fn', None)
        running[-1].calls.append(call)
        running.append(call)

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        call = running.pop()
        call.output, call.output_node = output, getattr(output, 'grad_fn', None)

    for path, module in trial.named_modules():
        if path:
            module.register_forward_pre_hook(partial(enter, path), with_kwargs=True)
            module.register_forward_hook(leave)
    root.output = trial(image)
    return root


def find_trunk(root: Call) -> list[Call]:
    """Return the sequence with the most parameters among a network's own calls."""
    if len(root.calls) == 1 and not isinstance(root.calls[0].output, Tensor):  # a wrapper of another network
        return find_trunk(root.calls[0])
    trunks = (_trunk_from(root.calls[begin:]) for begin in range(len(root.calls)))
    return max(trunks, key=count_weights, default=[])


def count_weights(trunk: Sequence[Call]) -> int:
    """Return the number of parameters of the calls that make feature maps."""
    return sum(param.numel() for call in trunk if call.is_map for param in call.module.parameters())


def _trunk_from(calls: Sequence[Call]) -> list[Call]:
    """Return the longest sequence that begins with the first call and in which each gets the output of the one before.

    A call inside which the feature map changes its size more than once is replaced by its own inner sequence.
    """
    length = [1] * len(calls)
    following: list[int | None] = [None] * len(calls)
    for i in reversed(range(len(calls))):
        for j in range(i + 1, len(calls)):
            if calls[i].feeds(calls[j]) and length[j] >= length[i]:
                length[i], following[i] = length[j] + 1, j
    at = 0 if calls else None
    found: list[Call] = []
    while at is not None:
        found += _expand(calls[at])
        at = following[at]
    return found


def _expand(call: Call) -> list[Call]:
    inner = inner_trunk(call)
    sizes = {tuple(each.output.shape[-2:]) for each in inner if isinstance(each.output, Tensor)}
    if inner:
        sizes.discard(tuple(call.input.shape[-2:]))
    return inner if len(sizes) > 1 else [call]


def inner_trunk(call: Call) -> list[Call]:
    """Return the sequence of calls that a call consists of; an empty list if it does more than them."""
    inner = _trunk_from(call.calls) if isinstance(call.input, Tensor) else []
    whole = bool(inner) and inner[0].input is call.input and inner[-1].output is call.output
    return inner if whole else []


def walk(call: Call) -> Iterator[Call]:
    """Yield all calls inside a call, in order."""
    for each in call.calls:
        yield each
        yield from walk(each)


def calls_beside(root: Call, trunk: Sequence[Call]) -> tuple[list[Call], list[Call]]:
    """Return the calls of layers that are not part of the trunk: those between its calls, and those after it."""
    inside = {id(each) for call in trunk for each in (call, *walk(call))}
    calls = list(walk(root))
    begin, end = (next(i for i, call in enumerate(calls) if call is each) for each in (trunk[0], trunk[-1]))

    def layers(some: Sequence[Call]) -> list[Call]:
        return [call for call in some if id(call) not in inside and call.has_weights and not call.calls]

    return layers(calls[begin:end]), layers(calls[end:])


def comes_only_from(output: Tensor, stage: int, nodes: Sequence[Any]) -> bool:
    """Return whether the image and later stages reach an output only through the feature of one stage.

    Args:
        output (Tensor): The output.
        stage (int): Index of the stage.
        nodes (Sequence): The autograd node of each stage's feature.
    """
    later = {id(node) for node in nodes[stage + 1 :]}
    todo, seen = [output.grad_fn], {id(nodes[stage])}
    while todo:
        node = todo.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        variable = getattr(node, 'variable', None)
        if id(node) in later or (variable is not None and not isinstance(variable, nn.Parameter)):  # the image
            return False
        todo += [before for before, _ in node.next_functions]
    return True
