"""Fingerprints of named tensors, to detect whether any bit of them has changed."""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

_DIGEST_LENGTH = 32  # hexadecimal digits, 128 bits


def digest(tensor: Tensor) -> str:
    """Hash the dtype, shape and bytes of one tensor, on any device.

    Args:
        tensor (Tensor): The tensor.

    Returns:
        str: The first 128 bits of the SHA-256, in hexadecimal.
    """
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    kind = f'{tensor.dtype} {tuple(tensor.shape)} '.encode()
    hashed = hashlib.sha256(kind)
    if flat.numel():
        hashed.update(flat.view(torch.uint8).numpy().data)
    return hashed.hexdigest()[:_DIGEST_LENGTH]


@dataclass(frozen=True)
class Fingerprint:
    """Digests of named tensors.

    Args:
        digests (dict[str, str]): The digest of each tensor by its name.
    """

    digests: Mapping[str, str]

    @property
    def total(self) -> str:
        """One hash of all names, dtypes, shapes and bytes, independent of the order of the tensors."""
        lines = ''.join(f'{name} {self.digests[name]}\n' for name in sorted(self.digests))
        return hashlib.sha256(lines.encode()).hexdigest()

    def find_changes(self, other: 'Fingerprint') -> list[str]:
        """Return the names of the tensors that differ from those of ``other``, or exist only in one of the two."""
        names = {**self.digests, **other.digests}
        return [name for name in names if self.digests.get(name) != other.digests.get(name)]


def fingerprint(tensors: Mapping[str, Tensor]) -> Fingerprint:
    """Hash each named tensor separately, in several threads.

    Args:
        tensors (Mapping[str, Tensor]): Tensors by name, on any device.

    Returns:
        Fingerprint: The digest of each tensor.
    """
    with ThreadPoolExecutor() as pool:  # hashing releases the interpreter lock
        return Fingerprint(dict(zip(tensors, pool.map(digest, tensors.values()))))
