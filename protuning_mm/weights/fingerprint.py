"""A hash over named tensors: whether they are, bit for bit, what they were."""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

_DIGEST = 32  # hexadecimal digits, 128 bits


def digest(tensor: Tensor) -> str:
    """Hash one tensor: its dtype, shape and bytes (SHA-256, cut to 128 bits), wherever it lives."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    kind = f'{tensor.dtype} {tuple(tensor.shape)} '.encode()
    hashed = hashlib.sha256(kind)
    if flat.numel():
        hashed.update(flat.view(torch.uint8).numpy().data)
    return hashed.hexdigest()[:_DIGEST]


@dataclass(frozen=True)
class Fingerprint:
    """Digests of named tensors.

    Args:
        digests (dict[str, str]): The digest of each tensor by its name.
    """

    digests: Mapping[str, str]

    @property
    def total(self) -> str:
        """One hash over all names, shapes, dtypes and bytes; the order of the tensors does not matter."""
        lines = ''.join(f'{name} {self.digests[name]}\n' for name in sorted(self.digests))
        return hashlib.sha256(lines.encode()).hexdigest()

    def moved(self, other: 'Fingerprint') -> list[str]:
        """Names of the tensors that differ from ``other``'s, or are in one of the two alone."""
        names = [*self.digests, *(name for name in other.digests if name not in self.digests)]
        return [name for name in names if self.digests.get(name) != other.digests.get(name)]


def fingerprint(tensors: Mapping[str, Tensor]) -> Fingerprint:
    """Hash named tensors one by one, several at once where there are cores: nothing is copied together.

    Args:
        tensors (Mapping[str, Tensor]): Tensors by name, on any device.
    """
    with ThreadPoolExecutor() as pool:  # hashing releases the interpreter
        return Fingerprint(dict(zip(tensors, pool.map(digest, tensors.values()))))
