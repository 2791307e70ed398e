"""``protuning pull``: download a delta from the Hugging Face Hub."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from protuning_mm.cli.command import command
from protuning_mm.cli.inspect_delta import format_text, inspect_delta
from protuning_mm.weights import CheckpointError
from protuning_mm.weights.atomic import write_atomically
from protuning_mm.weights.hub import parse_address
from protuning_mm.weights.signature import find_verified_checkpoint, read_public_key, signature_of


def pull_delta(repo: str, out: str | Path | None = None, key: str | Path | None = None) -> Path:
    """Download a delta, verify it, and copy it.

    Args:
        repo (str): ``owner/name[@revision][/file]``; ``hf://`` may precede it.
        out (str | Path, optional): The file to write. Defaults to ``<name>.safetensors`` in the working directory.
        key (str | Path, optional): An Ed25519 public key; the delta must be signed with its private key.

    Returns:
        Path: The written file. If the key is given, its signature lies beside it.

    Raises:
        CheckpointError: the delta cannot be downloaded, is damaged or is not signed with the key. Nothing is written.
        OSError: the file cannot be written.
    """
    address = parse_address(repo)
    public_key = None if key is None else read_public_key(key)
    found = find_verified_checkpoint(str(address), public_key)
    target = Path(out) if out is not None else Path(address.repo.partition('/')[2] + found.suffix)
    if target.suffix != found.suffix:
        raise CheckpointError(f'--out {target}: must end in {found.suffix}, as the file on the Hub does')
    inspect_delta(str(found))  # it is a whole delta
    write_atomically(found.read_bytes(), target)
    if public_key is not None:
        write_atomically(signature_of(found).read_bytes(), signature_of(target))
    return target


@command
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description='Download a delta from the Hugging Face Hub (docs/hub.md)')
    parser.add_argument('repo', help='owner/name, owner/name@revision or …/file')
    parser.add_argument('--out', help='file to write; defaults to NAME.safetensors')
    help_text = 'file with an Ed25519 public key (PEM); the delta must be signed with its private key'
    parser.add_argument('--verify', metavar='KEY', help=help_text)
    args = parser.parse_args(argv)
    print(format_text(inspect_delta(str(pull_delta(args.repo, args.out, args.verify)))))


if __name__ == '__main__':
    main()
