"""``protuning push``: publish a delta on the Hugging Face Hub."""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from protuning_mm.cli.command import command
from protuning_mm.cli.delta_card import write_card
from protuning_mm.cli.inspect_delta import inspect_delta
from protuning_mm.engine.config import read_config
from protuning_mm.weights import CheckpointError, safe_torch_load
from protuning_mm.weights.deltas import RECORD, DeltaRecord, drop_training_state
from protuning_mm.weights.hub import DELTA, HubAddress, explain_hub_errors, find_checkpoint, parse_address
from protuning_mm.weights.signature import read_private_key, sign
from protuning_mm.weights.write import write_checkpoint

CONFIG = 'config.py'


def push_delta(
    delta: str | Path,
    repo: str,
    config: str | None = None,
    metrics: Mapping[str, float] | None = None,
    license_name: str | None = None,
    private: bool = False,
    key: str | Path | None = None,
) -> str:
    """Publish a delta in a repository of the Hub, which is created if it does not exist, in one commit.

    The published file has no training state, and where a base is a local file its record keeps the file's name alone.

    Args:
        delta (str | Path): The delta.
        repo (str): ``owner/name``.
        config (str, optional): The task's config, published as one file, ``config.py``.
        metrics (Mapping[str, float], optional): Metrics for the card.
        license_name (str, optional): The Hub's identifier of the licence, such as ``'apache-2.0'``.
        private (bool): Whether a new repository is private. Defaults to False.
        key (str | Path, optional): An Ed25519 private key, with which the file is signed.

    Returns:
        str: The address of this commit, ``hf://owner/name@commit``.

    Raises:
        CheckpointError: the file is no delta or damaged, ``repo`` has another form, the key cannot be used, or the Hub
            refuses the commit. Nothing was published.
        ConfigError: the config cannot be read.
    """
    address = parse_address(repo)
    if address != HubAddress(address.repo):
        raise CheckpointError(f'{repo!r} must be owner/name: a delta is published on the main branch, as {DELTA}')
    private_key = None if key is None else read_private_key(key)
    cfg = None if config is None else read_config(config)
    content = make_public(delta)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_checkpoint(content, folder / DELTA)
        if private_key is not None:
            sign(folder / DELTA, private_key)
        if cfg is not None:
            (folder / CONFIG).write_text(cfg.pretty_text)
        info = inspect_delta(str(folder / DELTA))
        card = write_card(address.repo, info, metrics or {}, license_name, cfg is not None)
        (folder / 'README.md').write_text(card)
        return str(HubAddress(address.repo, _commit(address, folder, private)))


def _commit(address: HubAddress, folder: Path, private: bool) -> str:
    """Commit all files of a folder, and remove a signature and a config of the delta before; return the commit."""
    with explain_hub_errors(str(address)) as hub:
        api = hub.HfApi()
        api.create_repo(address.repo, private=private, exist_ok=True)
        added = {path.name: path for path in folder.iterdir()}
        stale = {f'{DELTA}.sig', CONFIG}.intersection(api.list_repo_files(address.repo)) - added.keys()
        operations = [hub.CommitOperationAdd(name, path) for name, path in added.items()]
        operations += [hub.CommitOperationDelete(name) for name in stale]
        done = api.create_commit(address.repo, operations, commit_message=f'Upload {DELTA}')
    return str(done.oid)


def make_public(delta: str | Path) -> dict[str, Any]:
    """Read a delta, and drop what only its author's machine needs: the training state, and folders in its record.

    Raises:
        CheckpointError: the file is no delta, or damaged.
    """
    content = safe_torch_load(find_checkpoint(delta), 'cpu')
    if not isinstance(content, dict) or RECORD not in content.get('state_dict', {}):
        raise CheckpointError(
            f'{delta} is not a delta, so it cannot be published as one: tools/model_converters/extract_delta.py makes '
            'one of a whole checkpoint'
        )
    content = drop_training_state(content)
    state = content['state_dict']
    record = DeltaRecord.from_tensor(state[RECORD])
    bases = {name: replace(base, source=_without_folder(base.source)) for name, base in record.bases.items()}
    state[RECORD] = replace(record, bases=bases).to_tensor()
    return dict(state_dict=state, meta=content.get('meta', {}))


def _without_folder(source: str | None) -> str | None:
    return Path(source).name if source and Path(source).is_absolute() else source


def _metric(written: str) -> tuple[str, float]:
    name, equals, value = written.rpartition('=')
    try:
        if name and equals:
            return name, float(value)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f'{written!r} must be NAME=NUMBER')


@command
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description='Publish a delta on the Hugging Face Hub (docs/hub.md)')
    parser.add_argument('delta', help='path of the delta')
    parser.add_argument('repo', help='repository, owner/name; it is created if it does not exist')
    parser.add_argument('--config', help="the task's config, which is published with it")
    parser.add_argument(
        '--metric', nargs='+', type=_metric, default=[], metavar='NAME=NUMBER', help='metrics for the card'
    )
    parser.add_argument('--license', metavar='ID', help="licence as the Hub names it, such as 'apache-2.0'")
    parser.add_argument('--private', action='store_true', help='create a private repository')
    parser.add_argument('--sign', metavar='KEY', help='file with an Ed25519 private key (PEM); the delta is signed')
    args = parser.parse_args(argv)
    print(push_delta(args.delta, args.repo, args.config, dict(args.metric), args.license, args.private, args.sign))


if __name__ == '__main__':
    main()
