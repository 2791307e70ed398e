"""Signatures of deltas, against openssl where it is there."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip('cryptography', reason='the extra `hub` is not installed')

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from protuning_mm.weights.signature import (
    SignatureError,
    find_verified_checkpoint,
    read_private_key,
    read_public_key,
    sign,
    signature_of,
    verify_signature,
)
from tests.keys import write_keys
from tests.mini import REPO


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / 'delta.safetensors'
    path.write_bytes(b'any bytes')
    return path


def test_signed_and_verified(file: Path, tmp_path: Path) -> None:
    private, public = write_keys(tmp_path / 'mine')
    assert sign(file, read_private_key(private)) == tmp_path / 'delta.safetensors.sig'
    verify_signature(file, read_public_key(public))
    assert find_verified_checkpoint(file, read_public_key(public)) == file


def test_what_is_refused(file: Path, tmp_path: Path) -> None:
    private, public = write_keys(tmp_path / 'mine')
    _, other = write_keys(tmp_path / 'other')
    with pytest.raises(SignatureError, match=r'has no signature: delta.safetensors.sig is missing'):
        verify_signature(file, read_public_key(public))
    signature = sign(file, read_private_key(private))
    with pytest.raises(SignatureError, match='was not signed with this key, or was changed'):
        verify_signature(file, read_public_key(other))
    signature.write_bytes(signature.read_bytes()[:-1])
    with pytest.raises(SignatureError, match='was not signed with this key, or was changed'):
        verify_signature(file, read_public_key(public))
    sign(file, read_private_key(private))
    file.write_bytes(b'any bytes!')
    with pytest.raises(SignatureError, match='was not signed with this key, or was changed'):
        verify_signature(file, read_public_key(public))


def test_other_keys(tmp_path: Path) -> None:
    private, public = write_keys(tmp_path / 'mine')
    with pytest.raises(SignatureError, match='is no private key in PEM'):
        read_private_key(public)
    with pytest.raises(SignatureError, match='is no public key in PEM'):
        read_public_key(private)
    with pytest.raises(SignatureError, match='No such file'):
        read_public_key(tmp_path / 'none.pem')
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    locked = tmp_path / 'locked.pem'
    password = serialization.BestAvailableEncryption(b'secret')
    locked.write_bytes(ed25519.Ed25519PrivateKey.generate().private_bytes(pem, pkcs8, password))
    with pytest.raises(SignatureError, match='without a password'):
        read_private_key(locked)
    other = tmp_path / 'rsa.pem'
    key = rsa.generate_private_key(65537, 2048)
    other.write_bytes(key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    with pytest.raises(SignatureError, match='must be one of Ed25519'):
        read_private_key(other)


@pytest.fixture
def openssl() -> Iterator[str]:
    found = shutil.which('openssl')
    if found is None:
        pytest.skip('needs openssl')
    yield found


def test_the_commands_of_the_docs(openssl: str, file: Path, tmp_path: Path) -> None:
    blocks = dict(re.findall(r'<!-- runs: (\w+) -->\n```bash\n(.*?)```', (REPO / 'docs/hub.md').read_text(), re.DOTALL))
    file.rename(tmp_path / 'cells.pth')
    for name in ('keys', 'sign'):
        subprocess.run(['bash', '-ec', blocks[name]], cwd=tmp_path, check=True, capture_output=True)
    verify_signature(tmp_path / 'cells.pth', read_public_key(tmp_path / 'public.pem'))


def test_openssl_reads_and_writes_the_same(openssl: str, file: Path, tmp_path: Path) -> None:
    def run(*words: object) -> None:
        subprocess.run([openssl, *map(str, words)], check=True, capture_output=True)

    private, public = tmp_path / 'key.pem', tmp_path / 'public.pem'
    run('genpkey', '-algorithm', 'ed25519', '-out', private)
    run('pkey', '-in', private, '-pubout', '-out', public)
    run('pkeyutl', '-sign', '-inkey', private, '-rawin', '-in', file, '-out', signature_of(file))
    verify_signature(file, read_public_key(public))
    signature_of(file).unlink()
    sign(file, read_private_key(private))
    run('pkeyutl', '-verify', '-pubin', '-inkey', public, '-rawin', '-in', file, '-sigfile', signature_of(file))
