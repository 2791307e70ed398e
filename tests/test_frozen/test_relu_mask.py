"""A bit for each ReLU's element: the same gradient as torch's own, in an eighth of a byte."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from protuning_mm.frozen.relu_mask import apply_relu_mask, pack_relu_mask
from tests.test_frozen.cases import run_often

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
FORMATS = (torch.contiguous_format, torch.channels_last)


def relu_and_grad(x: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    leaf = x.clone().requires_grad_()
    y = leaf.relu()
    y.backward(grad)
    return y.detach(), leaf.grad  # type: ignore[return-value]


@run_often(200)
@given(
    st.tuples(*(st.integers(1, n) for n in (3, 9, 11, 13))),
    st.sampled_from(DTYPES),
    st.sampled_from(FORMATS),
    st.booleans(),
    st.integers(0, 99),
)
def test_same_gradient_as_torch(
    shape: tuple[int, ...], dtype: torch.dtype, layout: torch.memory_format, inplace: bool, seed: int
) -> None:
    """Any size (multiples of eight or not), any type, either layout, special values; bit for bit."""
    torch.manual_seed(seed)
    x = torch.randn(shape).to(dtype)
    special = torch.tensor([0.0, -0.0, float('nan'), float('inf'), -float('inf')], dtype=dtype)
    x.view(-1)[torch.randint(x.numel(), (5,))] = special
    x = x.contiguous(memory_format=layout)
    grad = torch.randn(shape).to(dtype)
    y, expected = relu_and_grad(x, grad)
    mask = pack_relu_mask(y)
    assert mask.bits.numel() == (x.numel() + 7) // 8 and mask.bits.dtype == torch.uint8
    given_grad = grad.clone()
    got = apply_relu_mask(given_grad, mask, inplace=inplace)
    assert torch.equal(got.isnan(), expected.isnan())
    assert torch.equal(got.nan_to_num(), expected.nan_to_num())
    assert inplace or torch.equal(given_grad, grad)


def test_more_elements_than_are_handled_at_once() -> None:
    x = torch.randn(1, 3, 700, 700)
    grad = torch.randn_like(x)
    y, expected = relu_and_grad(x, grad)
    assert torch.equal(apply_relu_mask(grad, pack_relu_mask(y)), expected)


def test_gradients_that_share_memory_with_themselves() -> None:
    """The gradient of a sum is one number, spread."""
    y, expected = relu_and_grad(torch.randn(2, 3, 5, 7), torch.ones(()).expand(2, 3, 5, 7))
    assert torch.equal(apply_relu_mask(torch.ones(()).expand(2, 3, 5, 7), pack_relu_mask(y)), expected)


def test_empty() -> None:
    assert apply_relu_mask(torch.empty(0, 3, 4, 4), pack_relu_mask(torch.empty(0, 3, 4, 4))).shape == (0, 3, 4, 4)
