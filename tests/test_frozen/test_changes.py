"""Whatever plain torch does after a change of a frozen network, this does too."""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from protuning_mm.backbones import TunedBackbone
from protuning_mm.frozen import freeze_efficiently
from tests.families import flat
from tests.plain import fill
from tests.test_frozen.changes import CHANGES, Case

IMAGE = torch.randn(4, 3, 64, 72, generator=torch.Generator().manual_seed(0)).double()


def tuned(**backbone: Any) -> Callable[[bool], tuple[nn.Module, nn.Module]]:
    def build(efficient: bool) -> tuple[nn.Module, nn.Module]:
        net = TunedBackbone(backbone, 'pro', allow_random_backbone=True, efficient_frozen=efficient)
        fill(net).double().train()
        return net, net.plain

    return build


def layers(efficient: bool) -> tuple[nn.Module, nn.Module]:
    """Convolutions and norms in no known block, the first layer trained."""
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(4, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 6, 1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, stride=2, padding=1, groups=3),
    )
    fill(body).double().requires_grad_(False).eval()
    if efficient:
        freeze_efficiently(body)
    return nn.Sequential(fill(nn.Conv2d(3, 4, 1)).double(), body), body


NETWORKS: dict[str, Callable[[bool], tuple[nn.Module, nn.Module]]] = {
    'ResNet-18': tuned(type='mmdet.ResNet', depth=18, base_channels=4, stem_channels=4),
    'ResNet-50': tuned(type='mmdet.ResNet', depth=50, base_channels=4, stem_channels=4),
    'V1d': tuned(type='mmpretrain.ResNetV1d', depth=18, base_channels=4, stem_channels=4, out_indices=(0, 1, 2, 3)),
    'ResNeXt': tuned(
        type='mmdet.ResNeXt', depth=50, groups=2, base_width=4, base_channels=8, stem_channels=4, out_indices=(0, 2, 3)
    ),
    'timm': tuned(type='timm', model_name='resnet18', channels=(4, 4, 8, 8), stem_width=4, out_indices=(0, 1, 2, 3)),
    'layers': layers,
}


class Pair:
    """One network run efficiently and by plain torch, and the same changes of both."""

    def __init__(self, network: str, seed: int) -> None:
        self.cases = [Case(*NETWORKS[network](efficient), Random(seed)) for efficient in (True, False)]

    def apply(self, change: str) -> bool:
        """Change both; whether torch let it be done."""
        errors = [_error(lambda case=case: CHANGES[change](case)) for case in self.cases]
        assert errors[0] == errors[1]
        return errors[0] is None

    def compare(self) -> bool:
        """Outputs and every gradient, with and without one for the image; whether there were any."""
        fine = True
        for runs in (_run, _run_with_image_gradient, _run_without_gradients):
            got, expected = (_result(case, runs) for case in self.cases)
            if isinstance(expected, type):
                assert got is expected, got
                fine = False
                continue
            assert not isinstance(got, type), got
            assert set(got) == set(expected)
            # before a norm over a batch a bias has no gradient: what is left of it is rounding
            largest = max(_size(value) for value in expected.values())
            for name, value in expected.items():
                _assert_close(got[name], value, name, max(_size(value), 1e-3 * largest))
        return fine

    def close(self) -> None:
        for case in reversed(self.cases):
            for undo in reversed(case.undo):
                undo()


def _error(run: Callable[[], Any]) -> type | None:
    try:
        run()
    except Exception as error:
        return type(error)
    return None


def _result(case: Case, run: Callable[[Case], dict[str, Tensor]]) -> Any:
    try:
        return run(case)
    except Exception as error:
        return type(error)


def _run(case: Case, image: Tensor = IMAGE) -> dict[str, Tensor]:
    torch.manual_seed(0)
    case.net.zero_grad()
    for source in case.sources:
        source.grad = None
    outs = flat((case.run or case.net)(image))
    sum((out * out).sum() for out in outs).backward()  # type: ignore[union-attr]
    trained = [*case.net.named_parameters(), *((f'source {i}', t) for i, t in enumerate(case.sources))]
    return {
        **{f'out {i}': out.detach() for i, out in enumerate(outs)},
        **{name: t.grad.clone() for name, t in trained if t.grad is not None},
        **{name: t.clone() for name, t in case.net.named_buffers()},
    }


def _run_with_image_gradient(case: Case) -> dict[str, Tensor]:
    image = IMAGE.clone().requires_grad_()
    found = _run(case, image)
    assert image.grad is not None
    return found | {'image': image.grad}


def _run_without_gradients(case: Case) -> dict[str, Tensor]:
    with torch.no_grad():
        return {f'out {i}': out for i, out in enumerate(flat((case.run or case.net)(IMAGE)))}


def _size(t: Tensor) -> float:
    return float(t.nan_to_num().abs().max()) if t.is_floating_point() and t.numel() else 0


def _assert_close(got: Tensor, expected: Tensor, name: str, scale: float) -> None:
    assert got.dtype == expected.dtype and got.shape == expected.shape, name
    if not expected.is_floating_point():
        assert torch.equal(got, expected), name
        return
    assert torch.equal(got.isnan(), expected.isnan()), name
    error = _size(got - expected)
    assert error <= 1e-9 * scale, f'{name} differs by {error:.1e} of {scale:.1e}'


def check_one(change: str, network: str, seed: int = 0) -> None:
    pair = Pair(network, seed)
    try:
        assert pair.compare()  # what is folded is there
        pair.apply(change)
        pair.compare()
        pair.compare()
    finally:
        pair.close()


# what was found wrong once, by what is wrong: test_frozen/test_folding.py writes to weights of full width as well
ROWS = {
    'a write that no version counter sees': (
        'data_one_filter data_middle data_last data_any_element data_swapped_filters numpy_one_filter '
        'numpy_last numpy_any_element numpy_swapped_filters nan'
    ),
    'a copy': (
        'shallow_copy_of_a_block shallow_copy_with_other_layers shallow_copy_that_is_left_alone '
        'shallow_copy_with_another_stride copies_of_a_shallow_copy replica_of_a_block'
    ),
    'a class or a method': (
        'subclass_of_a_block subclass_of_a_convolution subclass_of_a_norm forward_of_a_block_s_class '
        'forward_of_conv2d conv_forward_of_conv2d conv_forward_of_one_convolution forward_of_batchnorm2d '
        'forward_of_relu call_of_conv2d under_a_mode'
    ),
    'a tensor that is trained': (
        'computed_weight computed_gamma computed_beta computed_statistics flattened_and_trained '
        'weight_norm spectral_norm parametrized swapped_for_a_call'
    ),
    'whole numbers': (
        'stride_as_a_number padding_as_a_number dilation_as_a_number another_stride another_padding '
        'stride_of_a_fraction'
    ),
    'another tensor': (
        'flattened_data weight_made_in_inference_mode weight_of_a_subclass gamma_of_another_size '
        'bias_of_another_size norm_of_another_type complex_numbers'
    ),
}


@pytest.mark.parametrize(('row', 'change'), [(row, change) for row, names in ROWS.items() for change in names.split()])
def test_a_change_that_was_missed(row: str, change: str) -> None:
    """Each of them on one of the networks."""
    check_one(change, list(NETWORKS)[list(CHANGES).index(change) % len(NETWORKS)])


@pytest.mark.slow
@pytest.mark.parametrize('network', NETWORKS)
@pytest.mark.parametrize('change', CHANGES)
def test_one_change(change: str, network: str) -> None:
    check_one(change, network, seed=1)


def check_sequence(network: str, seed: int) -> None:
    random = Random(seed)
    pair = Pair(network, seed)
    try:
        done = []
        for change in random.sample(list(CHANGES), 12):
            done.append(change)
            pair.apply(change)
            try:
                fine = pair.compare()
            except AssertionError as error:
                raise AssertionError(f'after {done}: {str(error).splitlines()[0]}') from error
            if not fine:  # both refuse: what follows would tell nothing
                pair.close()
                pair, done = Pair(network, random.randrange(1 << 30)), []
    finally:
        pair.close()


@pytest.mark.parametrize('network', ['ResNet-18', 'layers'])
def test_a_sequence_of_changes(network: str) -> None:
    check_sequence(network, 0)


@pytest.mark.slow
@pytest.mark.parametrize('seed', range(1, 21))
@pytest.mark.parametrize('network', NETWORKS)
def test_sequences_of_changes(network: str, seed: int) -> None:
    check_sequence(network, seed)
