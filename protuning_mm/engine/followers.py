"""Copies of a tuned backbone that follow it by an update rule: mean teacher, momentum encoder, weight average.

The update x ← (1 − m) x + m y rounds, so x changes even if x and y are equal frozen tensors. A copy made before weights
were loaded is also random until its first update. The frozen tensors of the copy (the follower) are therefore set to
those of the original (the leader) at the start, and again whenever they are used or saved.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from mmengine.model import BaseAveragedModel
from mmengine.runner import Runner
from torch import Tensor, nn

from protuning_mm.backbones import TunedBackbone, tuned_backbones
from protuning_mm.engine.unwrap import unwrap


@dataclass(frozen=True)
class Follower:
    """A tuned backbone that follows another one, its leader.

    Args:
        name (str): Module path of the follower.
        backbone (TunedBackbone): The follower.
        leader_name (str): Module path of the leader.
        leader (TunedBackbone): The leader.
        rule (str): The update rule, for log messages.
        in_model (bool): Whether the follower is part of the trained model; the average of an EMAHook is not.
    """

    name: str
    backbone: TunedBackbone
    leader_name: str
    leader: TunedBackbone
    rule: str
    in_model: bool = True

    def restore_frozen(self) -> None:
        """Set the frozen tensors to the leader's values.

        The copy goes through ``.data``, so that graphs computed from the same values stay valid.
        """
        theirs = _frozen(self.leader)
        for key, tensor in _frozen(self.backbone).items():
            tensor.data.copy_(theirs[key].data)

    def write_frozen_into(self, state: dict[str, Any]) -> None:
        """Set the frozen tensors to the leader's values in a state dict, whose tensors may be copies on the CPU."""
        for key in self.backbone.frozen_keys:
            if f'{self.leader_name}.{key}' in state:
                state[f'{self.name}.{key}'] = state[f'{self.leader_name}.{key}']


def find_followers(runner: Runner) -> list[Follower]:
    """Find the followers of a run.

    These are backbones in mmengine's averaged models, teachers of mmdet's MeanTeacherHook, and untrained backbones
    whose frozen tensors equal another backbone's.
    """
    model = unwrap(runner.model)
    mean_teacher = any(cls.__name__ == 'MeanTeacherHook' for hook in runner.hooks for cls in type(hook).__mro__)
    found = list(_in_model(model, mean_teacher))
    own = tuned_backbones(model)
    for hook in runner.hooks:
        average = getattr(hook, 'ema_model', None)
        if isinstance(average, BaseAveragedModel):
            for name, each in tuned_backbones(average.module).items():
                if name in own:
                    found.append(Follower(name, each, name, own[name], type(hook).__name__, in_model=False))
    return found


def averaged_copies(model: nn.Module) -> list[Follower]:
    """Return the followers inside mmengine's averaged models that are part of a model."""
    return [each for each in _in_model(model, False) if each.rule != _EQUAL]


_EQUAL = 'equal frozen tensors, and nothing in it is trained'


def _in_model(model: nn.Module, mean_teacher: bool) -> Iterator[Follower]:
    backbones = tuned_backbones(model)
    inside = {
        f'{path}.{name}': type(average).__name__
        for path, average in model.named_modules()
        if isinstance(average, BaseAveragedModel)
        for name in tuned_backbones(average)
    }
    free = [name for name in backbones if name not in inside]
    leaders = [name for name in free if _is_trained(backbones[name])] or free[:1]
    for name, backbone in backbones.items():
        if name in leaders and not (mean_teacher and name.startswith('teacher.')):
            continue
        candidates = [leader for leader in leaders if leader != name and _have_same_shapes(backbone, backbones[leader])]
        equal = [leader for leader in candidates if _have_equal_values(backbone, backbones[leader])]
        student = name.replace('teacher.', 'student.', 1)
        if mean_teacher and name.startswith('teacher.') and student in backbones:
            yield Follower(name, backbone, student, backbones[student], 'MeanTeacherHook')
        elif equal or (name in inside and len(candidates) == 1):
            leader = (equal or candidates)[0]
            yield Follower(name, backbone, leader, backbones[leader], inside.get(name, _EQUAL))


def _is_trained(backbone: nn.Module) -> bool:
    return any(param.requires_grad for param in backbone.parameters())


def _frozen(backbone: TunedBackbone) -> dict[str, Tensor]:
    keys = backbone.frozen_keys
    named: Any = chain(backbone.plain.named_parameters(), backbone.plain.named_buffers())
    return {key: tensor for key, tensor in named if key in keys}


def _have_same_shapes(one: TunedBackbone, other: TunedBackbone) -> bool:
    """Return whether the frozen tensors of two backbones have the same keys and shapes."""
    ours, theirs = _frozen(one), _frozen(other)
    return ours.keys() == theirs.keys() and all(tensor.shape == theirs[key].shape for key, tensor in ours.items())


def _have_equal_values(one: TunedBackbone, other: TunedBackbone) -> bool:
    """Return whether the frozen tensors of two backbones, which have the same shapes, are equal."""
    theirs = _frozen(other)
    return all(torch.equal(tensor, theirs[key].to(tensor)) for key, tensor in _frozen(one).items())
