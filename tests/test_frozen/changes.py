"""What people do to a network after it was built: each change is made to two networks in the same way."""

import copy
import gc
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils import weight_norm as old_weight_norm

from tests.plain import fill


@dataclass
class Case:
    """A network that is changed.

    Args:
        net (nn.Module): The network.
        body (nn.Module): Its frozen part.
        random (Random): Decides which layer is changed; the same for the network that it is compared with.
        sources (list[Tensor]): Tensors that a change made and that have a gradient.
        undo (list): Puts classes back as they were.
        run (Callable, optional): Runs the network, where a change says how.
    """

    net: nn.Module
    body: nn.Module
    random: Random
    sources: list[Tensor] = field(default_factory=list)
    undo: list[Callable[[], Any]] = field(default_factory=list)
    run: Callable[[Tensor], Any] | None = None

    def pick(self, kind: type | tuple[type, ...]) -> Any:
        """A layer of a kind in the frozen part."""
        return self.random.choice(self._found(kind))

    def _found(self, kind: type | tuple[type, ...]) -> list[nn.Module]:
        added = {id(part) for name in ('prompts',) for part in getattr(self.net, name, nn.Module()).modules()}
        return [part for part in self.body.modules() if isinstance(part, kind) and id(part) not in added]

    @property
    def conv(self) -> Any:
        return self.pick(nn.Conv2d)

    @property
    def norm(self) -> Any:
        return self.pick(nn.BatchNorm2d)

    @property
    def act(self) -> Any:
        return self.pick(nn.ReLU)

    @property
    def block(self) -> Any:
        """A residual block; in a network without any, a part of it."""
        return self._blocks()[0][self._blocks()[1]]

    def _blocks(self) -> tuple[Any, str]:
        parents = [
            (parent, name)
            for parent in self.body.modules()
            for name, child in parent._modules.items()
            if child is not None and hasattr(child, 'conv1') and child is not self.body
        ]
        if not parents:
            parents = [(self.body, name) for name in self.body._modules]
        parent, name = self.random.choice(parents)
        return parent._modules, name

    def replace_block(self, make: Callable[[Any], nn.Module]) -> None:
        table, name = self._blocks()
        table[name] = make(table[name])

    def replace(self, kind: type, make: Callable[[Any], nn.Module | None]) -> None:
        """Put another module in the place of a layer."""
        layer = self.pick(kind)
        for parent in self.body.modules():
            for name, child in parent._modules.items():
                if child is layer:
                    parent._modules[name] = make(layer)
                    return

    def patch(self, cls: type, name: str, value: Any) -> None:
        """Change a class for as long as the case is looked at."""
        old = cls.__dict__.get(name)
        setattr(cls, name, value)
        self.undo.append(lambda: setattr(cls, name, old) if old is not None else delattr(cls, name))

    def number(self) -> float:
        return self.random.uniform(0.5, 1.5)

    def noise(self, like: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(self.random.randrange(1 << 30))
        return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like)


CHANGES: dict[str, Callable[[Case], Any]] = {}


def change(make: Callable[[Case], Any]) -> Callable[[Case], Any]:
    CHANGES[make.__name__] = make
    return make


def _each(**changes: Callable[[Case], Any]) -> None:
    CHANGES.update(changes)


# Values, behind torch's back


def _data(name: str, write: Callable[[Tensor, Case], Any]) -> None:
    CHANGES[f'data_{name}'] = lambda case: write(case.conv.weight.data, case)
    CHANGES[f'numpy_{name}'] = lambda case: write(torch.from_numpy(case.conv.weight.detach().numpy()), case)


def _swap(t: Tensor, dim: int) -> None:
    t.copy_(t.roll(1, dim).clone())


_data('one_filter', lambda w, case: w[case.random.randrange(len(w))].mul_(case.number()))
_data('first', lambda w, case: w.view(-1)[0].add_(0.1))
_data('middle', lambda w, case: w.view(-1)[w.numel() // 2].add_(0.1))
_data('last', lambda w, case: w.view(-1)[-1].add_(0.1))
_data('any_element', lambda w, case: w.view(-1)[case.random.randrange(w.numel())].neg_())
_data('swapped_filters', lambda w, case: w[:2].copy_(w[:2].flip(0).clone()))
_data('swapped_channels', lambda w, case: _swap(w, 1))
_data('rolled', lambda w, case: _swap(w.view(-1), 0))
_data('negated', lambda w, case: w.neg_())
_data('flipped', lambda w, case: w.copy_(w.flip(-1).clone()))
_data('zeroed', lambda w, case: w.zero_())
_data('all', lambda w, case: w.copy_(case.noise(w) * w.std()))


@change
def data_by_one_ulp(case: Case) -> None:
    w = case.conv.weight.data.view(-1)
    w[-1] = torch.nextafter(w[-1], torch.full_like(w[-1], 9))


@change
def data_through_a_strided_view(case: Case) -> None:
    w = case.conv.weight
    torch.as_strided(w.data, (w.numel(),), (1,), w.storage_offset())[::3].mul_(1.25)


@change
def data_of_two_exchanged(case: Case) -> None:
    by_shape: dict[Any, list[nn.Conv2d]] = {}
    for conv in case._found(nn.Conv2d):
        by_shape.setdefault(conv.weight.shape, []).append(conv)
    pair = case.random.choice([convs for convs in by_shape.values() if len(convs) > 1] or [[case.conv] * 2])
    a, b = pair[0].weight, pair[-1].weight
    a.data, b.data = b.data, a.data


_each(
    data_of_a_mean=lambda case: case.norm.running_mean.data[0].add_(0.3),
    data_of_a_variance=lambda case: case.norm.running_var.data[-1].mul_(1.3),
    data_of_gamma=lambda case: case.norm.weight.data[-1].neg_(),
    numpy_of_beta=lambda case: case.norm.bias.detach().numpy().__iadd__(0.2),
    data_of_every_tensor=lambda case: [t.data.mul_(1.01) for t in case.body.parameters()],
    nan=lambda case: case.conv.weight.data.view(-1)[-1].fill_(float('nan')),
)


# Values, so that torch sees it


def _quietly(write: Callable[[Case], Any]) -> Callable[[Case], Any]:
    def run(case: Case) -> None:
        with torch.no_grad():
            write(case)

    return run


def _new(t: Tensor) -> nn.Parameter:
    return nn.Parameter(t.detach().clone(), requires_grad=False)


_each(
    scaled=_quietly(lambda case: case.conv.weight.mul_(case.number())),
    a_view_written=_quietly(lambda case: case.conv.weight[0].add_(0.1)),
    an_element_set=_quietly(lambda case: case.conv.weight.view(-1).__setitem__(-1, 0.5)),
    detached_written=lambda case: case.conv.weight.detach().mul_(0.9),
    statistic_set=_quietly(lambda case: case.norm.running_mean.__setitem__(0, 0.5)),
    statistics_reset=lambda case: case.norm.reset_running_stats(),
    eps=lambda case: setattr(case.norm, 'eps', case.number() / 10),
    momentum=lambda case: setattr(case.norm, 'momentum', 0.5),
    batches_counted=lambda case: case.norm.num_batches_tracked.add_(1),
    filled=lambda case: fill(case.body, case.random.randrange(99)),
    loaded=lambda case: case.body.load_state_dict({k: v * 1.05 for k, v in case.body.state_dict().items()}),
    loaded_by_assignment=lambda case: case.body.load_state_dict(
        {k: v.clone() * 1.02 for k, v in case.body.state_dict().items()}, assign=True
    ),
)


# Other tensors


@change
def new_parameter(case: Case) -> None:
    conv = case.conv
    conv.weight = _new(conv.weight * 1.5)


@change
def new_data(case: Case) -> None:
    w = case.conv.weight
    w.data = w.data * 0.7


@change
def data_with_channels_last(case: Case) -> None:
    w = case.conv.weight
    w.data = w.data.contiguous(memory_format=torch.channels_last)


@change
def data_in_another_order(case: Case) -> None:
    w = case.conv.weight
    w.data = w.data.permute(1, 3, 0, 2).contiguous().permute(2, 0, 3, 1)


@change
def data_expanded(case: Case) -> None:
    w = case.conv.weight
    w.data = w.data[:1].clone().expand_as(w)


@change
def flattened_data(case: Case) -> None:
    """All weights as views of one tensor, and one written through it."""
    params = [p for p in case.body.parameters() if not p.requires_grad]
    flat = torch.cat([p.data.reshape(-1) for p in params])
    offset = 0
    for p in params:
        p.data = flat[offset : offset + p.numel()].view(p.shape)
        offset += p.numel()
    flat[case.random.randrange(len(flat))] += 0.1


@change
def flattened_and_trained(case: Case) -> None:
    """As FSDP does: convolutions' weights are views of one parameter that has the gradient."""
    convs = [c for c in case._found(nn.Conv2d) if 'weight' in c._parameters]
    if not convs:
        return
    flat = torch.cat([c.weight.detach().reshape(-1) for c in convs]).requires_grad_()
    case.sources.append(flat)
    offset = 0
    for conv in convs:
        shape = conv.weight.shape
        del conv.weight
        conv.weight = flat[offset : offset + shape.numel()].view(shape)
        offset += shape.numel()


@change
def shared_weight(case: Case) -> None:
    conv, other = case.conv, case.conv
    if conv.weight.shape == other.weight.shape:
        conv._parameters['weight'] = other.weight


class Halving(Tensor):
    """A tensor that computes something else."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            y = func(*args, **(kwargs or {}))
        return y * 0.5 if func is torch.conv2d else y


@change
def weight_of_a_subclass(case: Case) -> None:
    conv = case.conv
    conv._parameters['weight'] = conv.weight.detach().clone().as_subclass(Halving)


@change
def weight_made_in_inference_mode(case: Case) -> None:
    conv = case.conv
    with torch.inference_mode():
        conv.weight = nn.Parameter(conv.weight.detach() * 1.2, requires_grad=False)


_each(
    no_gamma=lambda case: setattr(case.norm, 'weight', None),
    no_affine=lambda case: [setattr(n, k, None) for n in [case.norm] for k in ('weight', 'bias')],
    no_statistics=lambda case: [setattr(n, k, None) for n in [case.norm] for k in ('running_mean', 'running_var')],
    gamma_of_another_size=lambda case: setattr(case.norm, 'weight', nn.Parameter(torch.ones(1), requires_grad=False)),
    mean_of_another_size=lambda case: setattr(case.norm, 'running_mean', torch.zeros(1)),
    bias_of_another_size=lambda case: setattr(case.conv, 'bias', nn.Parameter(torch.ones(1), requires_grad=False)),
    bias_for_a_convolution=lambda case: [
        setattr(c, 'bias', nn.Parameter(c.weight.new_full((len(c.weight),), 0.3), requires_grad=False))
        for c in [case.conv]
    ],
    one_of_another_type=lambda case: case.conv.float(),
    norm_of_another_type=lambda case: case.norm.float(),
    rounded=lambda case: case.net.float().double(),
    channels_last=lambda case: case.net.to(memory_format=torch.channels_last),
    complex_numbers=lambda case: case.conv.to(torch.complex128),
)


# Geometry

_each(
    stride_as_a_number=lambda case: [setattr(c, 'stride', c.stride[0]) for c in _with_pairs(case)],
    padding_as_a_number=lambda case: [setattr(c, 'padding', c.padding[0]) for c in _with_pairs(case)],
    dilation_as_a_number=lambda case: [setattr(c, 'dilation', c.dilation[0]) for c in _with_pairs(case)],
    stride_of_one_number=lambda case: [setattr(c, 'stride', [c.stride[0]]) for c in _with_pairs(case)],
    padding_as_a_list=lambda case: [setattr(c, 'padding', [*c.padding]) for c in _with_pairs(case)],
    another_stride=lambda case: setattr(case.conv, 'stride', case.random.choice([1, 2, (1, 2)])),
    another_padding=lambda case: setattr(case.conv, 'padding', case.random.choice([0, 1, (0, 1)])),
    another_dilation=lambda case: setattr(case.conv, 'dilation', case.random.choice([1, 2])),
    stride_of_a_fraction=lambda case: setattr(case.conv, 'stride', 1.0),
    padding_same=lambda case: setattr(case.conv, 'padding', case.random.choice(['same', 'valid'])),
    padding_mode=lambda case: setattr(case.conv, 'padding_mode', 'circular'),
    groups=lambda case: setattr(case.conv, 'groups', 2),
)


def _with_pairs(case: Case) -> list[Any]:
    conv = case.conv
    return [conv] if all(isinstance(v, tuple) for v in (conv.stride, conv.padding, conv.dilation)) else []


# Classes and methods


def _subclass(layer: Any) -> None:
    cls = type(layer)
    layer.__class__ = type('Mine', (cls,), {'forward': lambda self, *args: cls.forward(self, *args) * 1.5})


def _doubled(method: Any) -> Any:
    return lambda self, *args, **kwargs: method(self, *args, **kwargs) * 1.5


def _in_place_of(name: str) -> Callable[[Any], None]:
    def run(layer: Any) -> None:
        old = getattr(type(layer), name)
        layer.__dict__[name] = lambda *args, **kwargs: old(layer, *args, **kwargs) * 1.5

    return run


_each(
    subclass_of_a_block=lambda case: _subclass(case.block),
    subclass_of_a_convolution=lambda case: _subclass(case.conv),
    subclass_of_a_norm=lambda case: _subclass(case.norm),
    subclass_of_an_activation=lambda case: _subclass(case.act),
    forward_of_a_block_s_class=lambda case: [
        case.patch(cls, 'forward', _doubled(cls.forward)) for cls in [type(case.block)]
    ],
    forward_of_conv2d=lambda case: case.patch(nn.Conv2d, 'forward', _doubled(nn.Conv2d.forward)),
    conv_forward_of_conv2d=lambda case: case.patch(nn.Conv2d, '_conv_forward', _doubled(nn.Conv2d._conv_forward)),
    forward_of_batchnorm2d=lambda case: case.patch(nn.BatchNorm2d, 'forward', _doubled(nn.BatchNorm2d.forward)),
    forward_of_relu=lambda case: case.patch(nn.ReLU, 'forward', lambda self, x: x.sigmoid()),
    call_of_conv2d=lambda case: case.patch(nn.Conv2d, '__call__', _doubled(nn.Conv2d.__call__)),
    forward_of_one_block=lambda case: _in_place_of('forward')(case.block),
    forward_of_one_convolution=lambda case: _in_place_of('forward')(case.conv),
    conv_forward_of_one_convolution=lambda case: _in_place_of('_conv_forward')(case.conv),
    forward_of_one_norm=lambda case: _in_place_of('forward')(case.norm),
    forward_of_one_activation=lambda case: _in_place_of('forward')(case.act),
)


# Structure


def _shallow_with(**attributes: Any) -> Callable[[Any], Any]:
    def make(layer: Any) -> Any:
        copied = copy.copy(layer)
        copied.__dict__ |= attributes
        return copied

    return make


def _shallow_with_own_tables(block: Any) -> Any:
    """A shallow copy whose layers can be replaced without the original's."""
    copied = copy.copy(block)
    copied.__dict__['_modules'] = dict(block._modules)
    for name, child in block._modules.items():
        if type(child) is nn.Conv2d:
            copied._modules[name] = copy.deepcopy(child)
            copied._modules[name].weight.data.mul_(0.6)
    return copied


def _drop_original(block: Any) -> Any:
    copied = copy.copy(block)
    block.__dict__['_modules'] = {}
    return copied


_each(
    shallow_copy_of_a_block=lambda case: case.replace_block(copy.copy),
    shallow_copy_with_other_layers=lambda case: case.replace_block(_shallow_with_own_tables),
    shallow_copy_that_is_left_alone=lambda case: case.replace_block(_drop_original),
    shallow_copy_of_a_convolution=lambda case: case.replace(nn.Conv2d, copy.copy),
    shallow_copy_with_another_stride=lambda case: case.replace(nn.Conv2d, _shallow_with(stride=(2, 2))),
    shallow_copy_of_a_norm=lambda case: case.replace(nn.BatchNorm2d, _shallow_with(eps=0.2)),
    replica_of_a_block=lambda case: case.replace_block(_replica),
    deep_copy_of_a_block=lambda case: case.replace_block(copy.deepcopy),
    pickled_block=lambda case: case.replace_block(lambda block: pickle.loads(pickle.dumps(block))),
    copied_then_changed=lambda case: case.replace_block(lambda block: fill(copy.deepcopy(block), 5)),
    wrapped_block=lambda case: case.replace_block(lambda block: nn.Sequential(block, nn.Tanh())),
    another_convolution=lambda case: case.replace(nn.Conv2d, lambda c: fill(copy.deepcopy(c), 6)),
    a_group_norm=lambda case: case.replace(
        nn.BatchNorm2d, lambda n: nn.GroupNorm(1, n.num_features).double().requires_grad_(False)
    ),
    no_norm=lambda case: case.replace(nn.BatchNorm2d, lambda n: nn.Identity()),
    a_synchronised_norm=lambda case: nn.SyncBatchNorm.convert_sync_batchnorm(case.block),
    another_activation=lambda case: case.replace(nn.ReLU, lambda a: nn.ELU()),
    no_activation=lambda case: case.replace(nn.ReLU, lambda a: nn.Identity()),
    an_activation_not_in_place=lambda case: setattr(case.act, 'inplace', False),
    no_shortcut=lambda case: setattr(case.block, 'downsample', None),
    an_idle_child=lambda case: case.block.add_module('mine', nn.Linear(2, 2).requires_grad_(False)),
    training_mode_of_a_norm=lambda case: case.norm.train(),
    training_mode_of_a_block=lambda case: case.block.train(),
    training_mode_of_a_convolution=lambda case: case.conv.train(),
)


@change
def copies_of_a_shallow_copy(case: Case) -> None:
    """The original is gone when the copy is copied."""
    table, name = case._blocks()
    table[name] = copy.copy(table[name])
    gc.collect()
    table[name] = pickle.loads(pickle.dumps(copy.deepcopy(table[name])))


def _replica(block: Any) -> Any:
    """As nn.DataParallel makes it, with its own layers and parameters."""
    replica = block._replicate_for_data_parallel()
    replica._modules = {name: None if child is None else _replica(child) for name, child in block._modules.items()}
    replica._parameters = dict(block._parameters)
    replica._buffers = dict(block._buffers)
    return replica


# Hooks


def _hook(register: str, *give: Any) -> Callable[[nn.Module], Any]:
    return lambda layer: getattr(layer, register)(*give)


_scale_output = _hook('register_forward_hook', lambda module, args, y: y * 1.5)
_scale_input = _hook('register_forward_pre_hook', lambda module, args: (args[0] * 1.5,))
_scale_grad = _hook(
    'register_full_backward_hook', lambda module, grads, given: tuple(g if g is None else g * 2 for g in grads)
)
_each(
    hook_on_a_block=lambda case: _scale_output(case.block),
    hook_on_a_convolution=lambda case: _scale_output(case.conv),
    hook_on_a_norm=lambda case: _scale_output(case.norm),
    hook_on_an_activation=lambda case: _scale_output(case.act),
    hook_before_a_block=lambda case: _scale_input(case.block),
    hook_before_a_convolution=lambda case: _scale_input(case.conv),
    hook_that_is_removed=lambda case: _scale_output(case.conv).remove(),
    backward_hook_on_a_convolution=lambda case: _scale_grad(case.conv),
)


# Gradients


def _computed(name: str) -> Callable[[Any, Case], None]:
    def run(layer: Any, case: Case) -> None:
        value = getattr(layer, name)
        if value is None:
            return
        source = torch.full_like(value.detach(), 0.9).requires_grad_()
        case.sources.append(source)
        if name in layer._parameters or name in layer._buffers:
            delattr(layer, name)
        setattr(layer, name, value.detach() * source)

    return run


_each(
    trained_convolution=lambda case: case.conv.weight.requires_grad_(),
    trained_gamma=lambda case: case.norm.weight is not None and case.norm.requires_grad_(),
    trained_block=lambda case: case.block.requires_grad_(),
    frozen_again=lambda case: case.body.requires_grad_(False),
    computed_weight=lambda case: _computed('weight')(case.conv, case),
    computed_gamma=lambda case: _computed('weight')(case.norm, case),
    computed_beta=lambda case: _computed('bias')(case.norm, case),
    computed_statistics=lambda case: _computed('running_mean')(case.norm, case),
    weight_norm=lambda case: parametrizations.weight_norm(case.conv),
    weight_norm_by_hooks=lambda case: old_weight_norm(case.conv),
    spectral_norm=lambda case: _from_seed(case, parametrizations.spectral_norm),
    spectral_norm_by_hooks=lambda case: _from_seed(case, old_spectral_norm),
    parametrized=lambda case: parametrize.register_parametrization(case.conv, 'weight', Scaled()),
    parametrized_norm=lambda case: parametrize.register_parametrization(case.norm, 'weight', Scaled()),
    pruned=lambda case: prune.l1_unstructured(case.conv, 'weight', 0.5),
)


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.8, dtype=torch.float64))

    def forward(self, w: Tensor) -> Tensor:
        return w * self.scale


def _from_seed(case: Case, apply: Callable[[Any], Any]) -> None:
    torch.manual_seed(case.random.randrange(99))
    apply(case.conv)


@change
def swapped_for_a_call(case: Case) -> None:
    """Weights that are handed in at each call, with a gradient, as ``functional_call`` does."""
    conv = case.conv
    names = [name for name, part in case.net.named_modules() if part is conv]
    if 'weight' not in conv._parameters:
        return
    source = (conv.weight.detach() * 1.3).requires_grad_()
    case.sources.append(source)
    given = {f'{names[0]}.weight' if names[0] else 'weight': source}
    case.run = lambda x: torch.func.functional_call(case.net, given, (x,))


class OutputsHalved(torch.overrides.TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        y = func(*args, **(kwargs or {}))
        return y * 0.5 if func is torch.conv2d else y


@change
def under_a_mode(case: Case) -> None:
    def run(x: Tensor) -> Any:
        with OutputsHalved():
            return case.net(x)

    case.run = run
