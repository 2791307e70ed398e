"""Keys for signatures."""

from pathlib import Path


def write_keys(folder: Path) -> tuple[Path, Path]:
    """Write a new Ed25519 private key and its public key, and return their paths."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    folder.mkdir(parents=True, exist_ok=True)
    private, public = folder / 'private.pem', folder / 'public.pem'
    key = Ed25519PrivateKey.generate()
    pem = serialization.Encoding.PEM
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public
