"""Signatures of deltas: Ed25519 (RFC 8032) over all bytes of a file, in a file beside it; the extra ``hub`` has them.

``openssl pkeyutl`` writes and reads the same signatures, and ``openssl genpkey -algorithm ed25519`` makes keys.
"""

from pathlib import Path
from typing import Any

from protuning_mm.weights.atomic import write_atomically
from protuning_mm.weights.errors import CheckpointError
from protuning_mm.weights.hub import SCHEME, HubAddress, fetch, find_checkpoint, parse_address

_PRIVATE, _PUBLIC = 'private', 'public'


class SignatureError(CheckpointError):
    """A file has no signature, or one of another key or file."""


def signature_of(path: Path) -> Path:
    """Return the path of a file's signature: the file's, with ``.sig`` added."""
    return path.with_name(f'{path.name}.sig')


def read_private_key(path: str | Path) -> Any:
    """Read an Ed25519 private key, PEM without a password.

    Raises:
        SignatureError: the file is missing or holds something else, or ``cryptography`` is not installed.
    """
    return _read_key(path, _PRIVATE)


def read_public_key(path: str | Path) -> Any:
    """Read an Ed25519 public key, PEM.

    Raises:
        SignatureError: the file is missing or holds something else, or ``cryptography`` is not installed.
    """
    return _read_key(path, _PUBLIC)


def sign(path: Path, key: Any) -> Path:
    """Write a file's signature beside it, and return the signature's path.

    Args:
        path (Path): The file.
        key: What :func:`read_private_key` has returned.

    Raises:
        OSError: a file cannot be read or written.
    """
    write_atomically(key.sign(path.read_bytes()), signature_of(path))
    return signature_of(path)


def verify_signature(path: Path, key: Any) -> None:
    """Verify a file against the signature beside it.

    Args:
        path (Path): The file.
        key: What :func:`read_public_key` has returned.

    Raises:
        SignatureError: the signature is missing, or is not one of this file by this key.
    """
    from cryptography.exceptions import InvalidSignature

    signature = signature_of(path)
    if not signature.is_file():
        raise SignatureError(f'{path} has no signature: {signature.name} is missing')
    try:
        key.verify(signature.read_bytes(), path.read_bytes())
    except InvalidSignature:
        raise SignatureError(f'{path} was not signed with this key, or was changed since') from None


def find_verified_checkpoint(written: str | Path, key: Any = None) -> Path:
    """Find a checkpoint as :func:`~protuning_mm.weights.hub.find_checkpoint` does, and verify its signature.

    Args:
        written (str | Path): A path, or an address that begins with ``hf://``.
        key (optional): What :func:`read_public_key` has returned. Defaults to verifying nothing.

    Raises:
        SignatureError: the signature is missing, or is not one of this file by this key.
        CheckpointError: there is no such file, or it cannot be downloaded.
    """
    path = find_checkpoint(written)
    if key is not None:
        if str(written).startswith(SCHEME):
            address = parse_address(str(written))
            commit = path.parents[address.file.count('/')].name  # the cache has a folder for each commit
            signature = HubAddress(address.repo, commit, f'{address.file}.sig')
            try:
                fetch(signature)
            except CheckpointError as error:
                raise SignatureError(f'{written} has no signature: {error}') from None
        verify_signature(path, key)
    return path


def _read_key(path: str | Path, kind: str) -> Any:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise SignatureError('signatures need the package cryptography: pip install "protuning_mm[hub]"') from None
    try:
        text = Path(path).read_bytes()
        if kind == _PRIVATE:
            key: Any = serialization.load_pem_private_key(text, None)
        else:
            key = serialization.load_pem_public_key(text)
    except OSError as error:
        raise SignatureError(f'key {str(path)!r}: {error.strerror}') from None
    except (ValueError, TypeError) as error:  # TypeError: it has a password
        raise SignatureError(f'key {str(path)!r} is no {kind} key in PEM without a password: {error}') from None
    if not isinstance(key, ed25519.Ed25519PrivateKey | ed25519.Ed25519PublicKey):
        raise SignatureError(f'key {str(path)!r} must be one of Ed25519: openssl genpkey -algorithm ed25519')
    return key
