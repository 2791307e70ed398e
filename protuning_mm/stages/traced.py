"""Networks without a reader of their own, read from a trial run: which modules run in sequence, and on what sizes."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from protuning_mm.stages.blocks import paths_of_blocks, read_block
from protuning_mm.stages.calls import (
    Call,
    calls_beside,
    comes_only_from,
    count_weights,
    find_trunk,
    inner_trunk,
    record_calls,
    walk,
)
from protuning_mm.stages.layouts import Maps, MapsLast
from protuning_mm.stages.readers import reading_error
from protuning_mm.stages.structure import ReadingError, Stage, Stages, split_evenly
from protuning_mm.stages.trial import copy_for_trial, sizes_to_try

_STEM_STRIDE = 4  # the first stage is the first one with this stride or a larger one
_SIZES = ((128, 192), (224, 224), (256, 256), (64, 64))


def read_traced(plain: nn.Module, num_stages: int = 4) -> Stages:
    """Read a network whose modules run in sequence, by running it once on torch's meta device.

    A stage ends where the next module changes the size of the feature map, and at every output. If all modules keep the
    size, they are divided into ``num_stages`` groups. What comes before the first stage of stride 4 is the stem, as in
    the hosts' own networks. Norms that are applied only to an output belong to no stage.

    Args:
        plain (nn.Module): The network. It takes images (N, 3, H, W), and returns feature maps or pooled features
            (N, C).
        num_stages (int): Number of stages of a network that keeps the size of its feature map. Defaults to 4.

    Raises:
        ReadingError: the network does not run, its modules do not run in sequence, or an output is neither a feature
            of that sequence nor pooled.
    """
    if isinstance(plain, nn.Sequential):  # its forward would call the modules that a tuning adds
        raise _error(plain, 'a bare nn.Sequential has no room for other modules: make it a child of a module of yours')
    if not any(True for _ in plain.parameters()):
        raise _error(plain, 'it has no weights')
    root, size = _run(plain)
    trunk = find_trunk(root)
    layout, sizes = _find_layout(plain, trunk, size)
    outputs = list(root.output) if isinstance(root.output, Sequence) else [root.output]
    bounds = _find_bounds(trunk, outputs)
    ends = _find_ends(trunk, sizes, bounds, size)
    if not ends:
        raise _error(plain, f'{_paths(trunk)} run in sequence, but none is a stage with weights')
    pooled = isinstance(outputs[-1], Tensor) and outputs[-1].dim() == 2
    _check_rest(plain, root, trunk[: ends[-1][1]], pooled)
    if len(ends) == 1 and not bounds - {ends[0][1] - 1}:
        trunk, sizes, ends = _divide(trunk, sizes, ends[0], num_stages)
    outs = tuple(_stage_of(plain, each, ends, trunk, sizes) for each in outputs)
    if len(set(outs)) < len(outs):
        raise _error(plain, f'several of its outputs come from one stage of those that {_paths(trunk)} make')
    return Stages(
        tuple(_make_stage(plain, trunk[begin:end], layout) for begin, end in ends),
        outs,
        layout,
        optional_keys=() if pooled else tuple(f'{path}.' for path in _output_norms(root, trunk[: ends[-1][1]])),
        pooled_channels=int(outputs[-1].shape[1]) if pooled else None,
        unused_keys=_idle_keys(plain, root),
    )


def _error(plain: nn.Module, why: str) -> ReadingError:
    name = f'{type(plain).__module__.split(".")[0]}.{type(plain).__name__}'
    return reading_error(plain, f"{why}. Write a reader and register it with protuning_mm.register_reader('{name}')")


def _run(plain: nn.Module) -> tuple[Call, tuple[int, int]]:
    """Run a copy of the network; return the call of the network itself and the size of its image.

    Raises:
        ReadingError: the network accepts none of the image sizes.
    """
    errors = []
    for device in ('meta', None):  # some operators do not support the meta device
        others = _SIZES if device == 'meta' else _SIZES[1:2]  # with values, a run takes seconds
        for size in sizes_to_try(plain, None, others):
            try:
                trial = copy_for_trial(plain, device)
                some = next(trial.parameters())
                image = torch.zeros(2, 3, *size, device=some.device, dtype=some.dtype, requires_grad=True)
                return record_calls(trial, image * 1), size  # no leaf, so that the network may change it in place
            except Exception as error:  # a network may raise anything for a size that it does not support
                errors.append(f'{type(error).__name__}: {(str(error).splitlines() or [""])[0]}')
        if next(plain.parameters()).is_meta:
            break
    raise _error(plain, f'it does not run on an image of zeros ({errors[-1]})')


def _paths(trunk: Sequence[Call]) -> str:
    shown = [call.path for call in trunk]
    return ', '.join(shown if len(shown) < 8 else [*shown[:4], '…', *shown[-3:]])


def _find_layout(
    plain: nn.Module, trunk: Sequence[Call], size: tuple[int, int]
) -> tuple[Maps, list[tuple[int, int] | None]]:
    """Return the layout of the trunk's features, and the size (H, W) of each; None for what is no feature map."""
    shapes = [tuple(call.output.shape) if call.is_map else None for call in trunk]
    maps = [shape for shape in shapes if shape is not None]
    if not maps:
        raise _error(plain, 'no modules run in sequence on feature maps (N, C, H, W); tokens need a reader')

    def count(begin: int) -> int:
        sides = (shape[begin : begin + 2] for shape in maps)
        return sum(abs(height * size[1] - width * size[0]) <= max(size) for height, width in sides)

    first = 1 if count(1) > count(2) else 2
    sizes = [None if shape is None else shape[first : first + 2] for shape in shapes]
    return (MapsLast() if first == 1 else Maps()), sizes


def _find_bounds(trunk: Sequence[Call], outputs: Sequence[Any]) -> set[int]:
    """Return the indices of the calls whose results are outputs, without a norm after the last stage."""
    index = {id(call.output): i for i, call in enumerate(trunk) if call.is_map}
    found = {index[id(each)] for each in outputs if id(each) in index}
    last = len(trunk) - 1
    if last in found and trunk[last].is_norm and not isinstance(trunk[last - 1].module, nn.Conv2d):
        found = found - {last} | {last - 1}
    return found


def _find_ends(
    trunk: Sequence[Call], sizes: Sequence[Any], bounds: set[int], size: tuple[int, int]
) -> list[tuple[int, int]]:
    """Return begin and end of each stage in the trunk."""
    last = len(trunk)
    while last and last - 1 not in bounds and _is_after_stages(trunk, sizes, last - 1):
        last -= 1
    found: list[tuple[int, int]] = []
    begin = 0
    for i in range(last):
        if i + 1 < last and sizes[i + 1] == sizes[i] and i not in bounds:
            continue
        strided = sizes[i] is not None and size[0] >= _STEM_STRIDE * sizes[i][0]
        if not any(call.has_weights for call in trunk[begin : i + 1]):
            if found:
                found[-1] = (found[-1][0], i + 1)
                begin = i + 1
        elif strided or i in bounds or found:
            found.append((begin, i + 1))
            begin = i + 1
        else:
            begin = i + 1
    if found:  # pooling before the first stage belongs to the stem
        begin, end = found[0]
        found[0] = (next(i for i in range(begin, end) if trunk[i].has_weights), end)
    return found


def _is_after_stages(trunk: Sequence[Call], sizes: Sequence[Any], i: int) -> bool:
    """Return whether a call at the trunk's end is an output's norm, the pooling before a classifier, or after it."""
    if not trunk[i].is_map:
        return True
    if i == 0:
        return False
    if trunk[i].is_norm:
        return not isinstance(trunk[i - 1].module, nn.Conv2d)
    return not trunk[i].has_weights and sizes[i] != sizes[i - 1]


def _divide(
    trunk: list[Call], sizes: list[Any], stage: tuple[int, int], num_stages: int
) -> tuple[list[Call], list[Any], list[tuple[int, int]]]:
    """Divide the calls of one stage into groups whose numbers of calls differ by at most one.

    If there are fewer calls than stages, the one with the most parameters is replaced by its own calls.

    Returns:
        tuple: The trunk, its sizes, and begin and end of each group.
    """
    begin, end = stage
    largest = max(range(begin, end), key=lambda i: count_weights(trunk[i : i + 1]))
    inner = inner_trunk(trunk[largest]) if end - begin < num_stages else []
    if inner:
        trunk = [*trunk[:largest], *inner, *trunk[largest + 1 :]]
        sizes = [*sizes[:largest], *[sizes[largest]] * len(inner), *sizes[largest + 1 :]]
        end += len(inner) - 1
    groups = split_evenly(end - begin, num_stages if end - begin >= num_stages else 1)
    return trunk, sizes, [(begin + first, begin + last) for first, last in groups]


def _make_stage(plain: nn.Module, calls: Sequence[Call], layout: Maps) -> Stage:
    paths, last = tuple(call.path for call in calls), calls[-1]
    if not last.is_map:
        raise _error(plain, f'{last.path!r}, the end of a stage, returns no feature map')
    last_axis = isinstance(layout, MapsLast)
    found = (each for path in paths for each in paths_of_blocks(plain, path))
    blocks = tuple(read_block(plain, each, pointwise=True, branches=last_axis) for each in found)
    return Stage(paths, blocks, last.path, int(last.output.shape[3 if last_axis else 1]))


def _stage_of(
    plain: nn.Module, output: Any, ends: Sequence[tuple[int, int]], trunk: Sequence[Call], sizes: Sequence[Any]
) -> int:
    """Return the index of the stage that an output comes from.

    An output is a stage's feature, or has the size of one, as after a norm; a pooled output comes from the last stage.
    """
    if isinstance(output, Tensor) and output.dim() == 2:
        return len(ends) - 1
    for i, (_, end) in enumerate(ends):
        if trunk[end - 1].output is output:
            return i
    shape = tuple(output.shape) if isinstance(output, Tensor) else ()
    same = [i for i, (_, end) in enumerate(ends) if len(shape) == 4 and sizes[end - 1] in (shape[2:], shape[1:3])]
    if same and comes_only_from(output, same[-1], [trunk[end - 1].output_node for _, end in ends]):
        return same[-1]
    raise _error(
        plain, f'{_paths(trunk)} run in sequence, and its output {shape or type(output).__name__} is none of theirs'
    )


def _check_rest(plain: nn.Module, root: Call, trunk: Sequence[Call], pooled: bool) -> None:
    """Check that all layers after the trunk's beginning ran in it, apart from norms and layers on pooled features.

    Raises:
        ReadingError: another layer ran.
    """
    between, after = calls_beside(root, trunk)
    if pooled:
        after = [call for call in after if not isinstance(call.input, Tensor) or call.input.dim() > 2]
    for call in between + after:
        if not call.is_norm:
            raise _error(plain, f'{call.path!r} does not run in sequence with {_paths(trunk)}')


def _output_norms(root: Call, trunk: Sequence[Call]) -> list[str]:
    """Return the paths of the norms that only outputs use."""
    return [call.path for calls in calls_beside(root, trunk) for call in calls if call.is_norm]


def _idle_keys(plain: nn.Module, root: Call) -> tuple[str, ...]:
    """Return the key prefixes of children that did not run."""
    used = {call.path.split('.')[0] for call in walk(root)}
    return tuple(f'{name}.' for name, _ in plain.named_children() if name not in used)
