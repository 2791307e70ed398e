"""The fingerprint depends on names, shapes, dtypes and bytes only."""

import hashlib

import pytest
import torch

from protuning_mm.weights.fingerprint import digest, fingerprint

STATE = {'a': torch.arange(6.0).reshape(2, 3), 'b': torch.tensor(5), 'c': torch.zeros(0, 4)}


def test_matches_sha256_of_hashlib() -> None:
    expected = hashlib.sha256(b'torch.float32 (2, 3) ' + STATE['a'].numpy().tobytes()).hexdigest()[:32]
    assert digest(STATE['a']) == expected
    lines = ''.join(f'{name} {digest(STATE[name])}\n' for name in ('a', 'b', 'c'))
    assert fingerprint(STATE).total == hashlib.sha256(lines.encode()).hexdigest()


def test_order_and_layout_in_memory_do_not_matter() -> None:
    turned = {name: STATE[name] for name in ('c', 'b', 'a')}
    turned['a'] = STATE['a'].t().contiguous().t()  # other strides
    turned['b'] = torch.tensor([4, 5, 6])[1]
    assert not turned['a'].is_contiguous()
    assert fingerprint(turned).total == fingerprint(STATE).total


@pytest.mark.parametrize(
    'change',
    [
        dict(a=STATE['a'].reshape(3, 2)),
        dict(a=STATE['a'].view(torch.int32)),
        dict(a=torch.nextafter(STATE['a'], torch.tensor(9.0))),
        dict(a=STATE['a'].where(STATE['a'] != 0, -0.0)),  # −0 is another bit than 0
        dict(b=torch.tensor(5, dtype=torch.int32)),
        dict(c=torch.zeros(4, 0)),
        dict(d=torch.zeros(1)),
    ],
)
def test_every_other_change_matters(change: dict) -> None:
    other = fingerprint({**STATE, **change})
    assert other.total != fingerprint(STATE).total
    assert fingerprint(STATE).find_changes(other) == list(change)


@pytest.mark.parametrize(
    'dtype', [torch.bfloat16, torch.float16, torch.bool, torch.int64, torch.complex64, torch.uint8]
)
def test_every_dtype(dtype: torch.dtype) -> None:
    one, other = torch.ones(3).to(dtype), torch.tensor([1, 1, 0]).to(dtype)
    assert digest(one) == digest(one.clone()) != digest(other)
