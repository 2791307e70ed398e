"""A table of the trained and frozen parameters of a model's parts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from protuning_mm.backbones import TunedBackbone, read_stages, tuned_backbones
from protuning_mm.engine.unwrap import unwrap


@dataclass(frozen=True)
class Part:
    """Parameter counts of one part of a model.

    Args:
        name (str): Name of the part.
        trained (int): Number of trained parameters.
        frozen (int): Number of frozen parameters.
        rates (tuple[float]): Learning rates of the trained parameters, sorted; empty if unknown.
    """

    name: str
    trained: int
    frozen: int
    rates: tuple[float, ...] = ()


@dataclass(frozen=True)
class ParameterTable:
    """The parameter counts of a model's parts.

    Args:
        parts (list[Part]): Stem, stages, prompts, neck and each head.
        added (int): Number of parameters that tunings added, which full fine-tuning of the plain model does not have.
    """

    parts: list[Part]
    added: int

    @property
    def trained(self) -> int:
        return sum(part.trained for part in self.parts)

    @property
    def frozen(self) -> int:
        return sum(part.frozen for part in self.parts)

    @property
    def full(self) -> int:
        """Number of parameters of the plain model, which full fine-tuning trains."""
        return self.trained + self.frozen - self.added

    @property
    def share(self) -> float:
        """Number of trained parameters as a fraction of :attr:`full`."""
        return self.trained / self.full if self.full else 0.0

    def to_dict(self) -> dict[str, Any]:
        parts = [dict(name=part.name, trained=part.trained, frozen=part.frozen) for part in self.parts]
        return dict(parts=parts, trained=self.trained, frozen=self.frozen, full=self.full, share=self.share)

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [('part', 'trained', 'frozen', 'learning rate')]
        rows += [(p.name, f'{p.trained:,}', f'{p.frozen:,}', _as_range(p.rates)) for p in self.parts]
        rows += [('total', f'{self.trained:,}', f'{self.frozen:,}', '')]
        if not any(part.rates for part in self.parts):
            rows = [row[:3] for row in rows]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [
            '  '.join([f'{name:<{widths[0]}}', *(f'{cell:>{width}}' for cell, width in zip(cells, widths[1:]))])
            for name, *cells in rows
        ]
        rule = '-' * len(lines[0])
        summary = f'{self.trained / 1e6:.2f} M trained, {self.share:.1%} of full fine-tuning ({self.full / 1e6:.2f} M)'
        return '\n'.join([lines[0], rule, *lines[1:-1], rule, lines[-1], summary])


def count_parameters(model: Any, optim_wrapper: Any = None) -> ParameterTable:
    """Count a model's parameters by stem, stages, prompts, neck and each head.

    Args:
        model (nn.Module): Any module, wrapped (DDP) or not. Each child is one part. The parameters that belong to no
            child form one more part together. Tuned backbones, and the model's child named ``backbone``, are split into
            stem, stages and added modules; ``roi_head`` is split into its heads. A parameter that several parts share
            is counted only in the first of them.
        optim_wrapper (OptimWrapper | OptimWrapperDict, optional): The optimizer wrapper, to list learning rates.
    """
    model = unwrap(model)
    rates = _rates(optim_wrapper)
    parts, seen = [], set[nn.Parameter]()
    for name, params in _parts(model):
        parts.append(_count(name, [param for param in dict.fromkeys(params) if param not in seen], rates))
        seen.update(params)
    added = sum(
        param.numel()
        for backbone in tuned_backbones(model).values()
        for name in backbone.added_children
        for param in backbone._modules[name].parameters()
    )
    return ParameterTable([part for part in parts if part.trained or part.frozen], added)


def print_trainable_parameters(model: nn.Module) -> None:
    """Print a table of the trained and frozen parameters of a model's parts.

    Args:
        model (nn.Module): See :func:`count_parameters`.
    """
    print(count_parameters(model))


def _parts(model: nn.Module) -> Iterator[tuple[str, list[nn.Parameter]]]:
    if isinstance(model, TunedBackbone):
        yield from _parts_of_backbone('backbone', model)
        return
    for name, child in model.named_children():
        if name == 'backbone' or isinstance(child, TunedBackbone):
            yield from _parts_of_backbone(name, child)
        elif name == 'roi_head':  # a detector's heads of the second stage, one row each
            for head, module in child.named_children():
                yield f'{name}.{head}', list(module.parameters())
            yield name, list(child.parameters(recurse=False))
        else:
            yield name, list(child.parameters())
    yield type(model).__name__, list(model.parameters(recurse=False))


def _parts_of_backbone(name: str, backbone: Any) -> Iterator[tuple[str, list[nn.Parameter]]]:
    """Yield stem (with all modules outside of stages, such as final norms), stages and added modules of a backbone."""
    params = dict(backbone.named_parameters())
    tuned = isinstance(backbone, TunedBackbone)
    try:
        stages = backbone.structure.stages if tuned else read_stages(backbone).stages
    except TypeError:  # no reader supports this class
        yield name, list(params.values())
        return
    parts = {f'{name}.stages.{i}': stage.modules for i, stage in enumerate(stages)}
    parts |= {f'{name}.{child}': (child,) for child in (backbone.added_children if tuned else ())}
    found = {}
    for part, paths in parts.items():
        starts = tuple(f'{path}.' for path in paths)
        found[part] = [params.pop(key) for key in list(params) if key.startswith(starts)]
    yield f'{name}.stem', list(params.values())
    yield from found.items()


def _count(name: str, params: list[nn.Parameter], rates: Mapping[nn.Parameter, float]) -> Part:
    trained = [param for param in params if param.requires_grad]
    number = sum(param.numel() for param in trained)
    found = {rates[param] for param in trained if param in rates}
    return Part(name, number, sum(param.numel() for param in params) - number, tuple(sorted(found)))


def param_groups(optim_wrapper: Any) -> list[dict[str, Any]]:
    """Return the parameter groups of an optimizer wrapper, or of all optimizers in an OptimWrapperDict."""
    wrappers = list(optim_wrapper.values()) if hasattr(optim_wrapper, 'optim_wrappers') else [optim_wrapper]
    return [group for each in wrappers for group in each.optimizer.param_groups]


def _rates(optim_wrapper: Any) -> dict[nn.Parameter, float]:
    """Return parameter -> learning rate, ignoring schedulers that have already changed it, such as a warm-up."""
    groups = param_groups(optim_wrapper) if optim_wrapper is not None else []
    return {param: float(group.get('initial_lr', group['lr'])) for group in groups for param in group['params']}


def _as_range(rates: tuple[float, ...]) -> str:
    if not rates:
        return ''
    return f'{rates[0]:g}' if rates[0] == rates[-1] else f'{rates[0]:.3g} to {rates[-1]:.3g}'
