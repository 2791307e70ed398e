"""One forward pass of the frozen network for several tasks."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from protuning_mm.backbones import TunedBackbone
from protuning_mm.multitask.joint.architecture import copy_plain, outputs_are_stages
from protuning_mm.multitask.joint.batch_rows import BatchRows, select_rows
from protuning_mm.multitask.joint.tuning_hooks import find_hooked_blocks, find_tuning_hooks


class JointNetwork:
    """The frozen network, in which the hooks of each task's tunings act on that task's rows of the batch.

    It copies modules, but no tensors. Two threads must not run it at the same time.

    Args:
        backbones (Mapping): Task -> its backbone. All can run jointly and have the same architecture key.
    """

    def __init__(self, backbones: Mapping[str, TunedBackbone]) -> None:
        self.backbones = dict(backbones)
        first = next(iter(backbones.values()))
        self.network = copy_plain(first)
        self.outs = first.structure.outs
        if outputs_are_stages(first):
            self.outs = tuple(sorted(set(chain.from_iterable(b.structure.outs for b in backbones.values()))))
            self.network.out_indices = self.outs
        self.hooks = {name: find_tuning_hooks(backbone) for name, backbone in backbones.items()}
        self.hooked_blocks = {name: find_hooked_blocks(b, self.hooks[name]) for name, b in backbones.items()}
        self._running: tuple[list[str], BatchRows] | None = None  # tasks and rows of the current pass
        for path in sorted(set(chain.from_iterable(self.hooked_blocks.values()))):
            block = self.network.get_submodule(path)
            block.register_forward_pre_hook(partial(self._split_before, path), with_kwargs=True)
        for path in sorted(set(chain.from_iterable(self.hooks.values()))):
            module = self.network.get_submodule(path)
            module.register_forward_hook(partial(self._apply_hooks, path), with_kwargs=True)

    def __call__(self, images: Tensor, wanted: Mapping[str, Sequence[int]]) -> dict[str, Any]:
        """Run the network once.

        Args:
            images (Tensor): (N, 3, H, W), distinct images.
            wanted (Mapping): Task -> the distinct indices of its images.

        Returns:
            dict: Task -> what its tuned backbone returns for its images.
        """
        names = list(wanted)
        rows = BatchRows(list(wanted.values()), [self._acts(name) for name in names])
        run = self.backbones[names[0]].structure.run
        # timm models shape their outputs by the batch size of their input, so the batch is split before them
        batch = images if run is None else rows.split(images)
        self._running = names, rows
        try:
            outs = self.network(batch) if run is None else run(self.network, batch)
        finally:
            self._running = None
        return {name: self._output_of(i, name, images, rows, outs) for i, name in enumerate(names)}

    def _acts(self, name: str) -> bool:
        return any(not hook.only_watches for hooks in self.hooks[name].values() for hook in hooks)

    def _output_of(self, i: int, name: str, images: Tensor, rows: BatchRows, outs: Any) -> Any:
        backbone = self.backbones[name]
        if not isinstance(outs, Tensor) and self.outs != backbone.structure.outs:
            outs = type(outs)(outs[self.outs.index(stage)] for stage in backbone.structure.outs)
        outs = rows.select_outputs(i, outs)
        own = select_rows(images, rows.images[i], rows.num_images)
        for tuning in backbone.tunings:
            outs = tuning.after_forward(own, outs)
        return outs

    def _split_before(self, path: str, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Split the batch before a block in which a task acts, because the block's shortcut needs the rows too."""
        assert self._running is not None
        names, rows = self._running
        if rows.is_split or not any(path in self.hooked_blocks[name] for name in names):
            return None
        return (rows.split(args[0]), *args[1:]), kwargs

    def _apply_hooks(
        self, path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> Any:
        """Call each task's hooks of a module with the task's rows of the module's input and output."""
        assert self._running is not None
        names, rows = self._running
        dim = 1 if isinstance(module, nn.MultiheadAttention) and not module.batch_first else 0
        changed: dict[int, Any] = {}
        for i, name in enumerate(names):
            if hooks := self.hooks[name].get(path):
                own_args, own_kwargs, own = (
                    select_rows(x, rows.of_task(i), rows.number, dim) for x in (args, kwargs, output)
                )
                result = own
                for hook in hooks:
                    result = hook(module, own_args, own_kwargs, result)
                if result is not own:
                    changed[i] = result
        if not changed:
            return None
        if not rows.is_split:
            output = rows.split(output)
        return _replace_rows(output, {rows.split_rows[i][0]: result for i, result in changed.items()}, rows.number, dim)


def _replace_rows(output: Any, parts: Mapping[int, Any], number: int, dim: int) -> Any:
    """Replace consecutive rows of a tensor, or of each tensor in a tuple; ``parts`` maps the first row to new rows."""
    if isinstance(output, tuple):
        return tuple(
            _replace_rows(item, {row: part[k] for row, part in parts.items()}, number, dim)
            for k, item in enumerate(output)
        )
    if not isinstance(output, Tensor):
        return output
    each = output.shape[dim] // number
    pieces, at = [], 0
    for row in sorted(parts):
        pieces += [output.narrow(dim, at, row * each - at), parts[row]]
        at = row * each + parts[row].shape[dim]
    pieces.append(output.narrow(dim, at, output.shape[dim] - at))
    return torch.cat([piece for piece in pieces if piece.shape[dim]], dim)
