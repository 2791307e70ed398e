"""Deltas on the Hugging Face Hub, under the scheme ``hf://``; it needs the extra ``hub``.

``hf://owner/name`` is the file ``delta.safetensors`` of a repository, ``hf://owner/name@revision`` the one of a branch,
tag or commit, and ``hf://owner/name@revision/file`` another file of it. The environment variables of
``huggingface_hub`` apply: ``HF_ENDPOINT``, ``HF_TOKEN``, ``HF_HOME``, ``HF_HUB_OFFLINE``.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protuning_mm.weights.errors import CheckpointError
from protuning_mm.weights.safe_load import safe_torch_load

SCHEME = 'hf://'
DELTA = 'delta.safetensors'  # the file that a repository's address stands for
_WORD = r'(?!\.)[\w.-]+'
_ADDRESS = re.compile(
    rf'(?:hf://)?(?P<repo>{_WORD}/{_WORD})(?:@(?P<revision>{_WORD}))?(?:/(?P<file>{_WORD}(?:/{_WORD})*))?', re.ASCII
)


@dataclass(frozen=True)
class HubAddress:
    """The address of a file on the Hub.

    Args:
        repo (str): ``owner/name``.
        revision (str, optional): A branch, tag or commit. Defaults to the main branch.
        file (str): Path in the repository. Defaults to ``'delta.safetensors'``.
    """

    repo: str
    revision: str | None = None
    file: str = DELTA

    def __str__(self) -> str:
        revision = f'@{self.revision}' if self.revision else ''
        return f'{SCHEME}{self.repo}{revision}' + (f'/{self.file}' if self.file != DELTA else '')


def parse_address(written: str) -> HubAddress:
    """Read an address; ``hf://`` may be omitted.

    Raises:
        CheckpointError: the address has another form.
    """
    found = _ADDRESS.fullmatch(written)
    if found is None:
        raise CheckpointError(f'{written!r} must be hf://owner/name, hf://owner/name@revision or …/file')
    return HubAddress(found['repo'], found['revision'], found['file'] or DELTA)


def fetch(address: HubAddress) -> Path:
    """Download a file, unless the cache has it, and return its path in the cache.

    Raises:
        CheckpointError: there is no such repository, revision or file, the Hub cannot be reached, or
            ``huggingface_hub`` is not installed.
    """
    with explain_hub_errors(str(address)) as hub:
        return Path(hub.hf_hub_download(address.repo, address.file, revision=address.revision))


def load_from_hub(address: str, map_location: Any = None) -> Any:
    """Load a checkpoint from the Hub, without running code.

    Args:
        address (str): ``hf://owner/name[@revision][/file]``.
        map_location: As in :func:`torch.load`.

    Raises:
        CheckpointError: see :func:`fetch`; or the file is damaged or would run code.
    """
    return safe_torch_load(fetch(parse_address(address)), map_location)


def find_checkpoint(written: str | Path) -> Path:
    """Return the file of a checkpoint; one on the Hub is downloaded.

    Args:
        written (str | Path): A path, or an address that begins with ``hf://``.

    Raises:
        CheckpointError: there is no such file, or it cannot be downloaded.
    """
    if str(written).startswith(SCHEME):
        return fetch(parse_address(str(written)))
    if not Path(written).is_file():
        raise CheckpointError(f'checkpoint {str(written)!r} does not exist')
    return Path(written)


@contextmanager
def explain_hub_errors(address: str) -> Iterator[Any]:
    """Yield the module ``huggingface_hub``; raise its errors as one that names the address.

    Raises:
        CheckpointError: in place of an error of ``huggingface_hub``.
    """
    try:
        import huggingface_hub as hub
        from huggingface_hub import errors
    except ImportError:
        raise CheckpointError(
            f'{address}: the Hub needs the package huggingface_hub: pip install "protuning_mm[hub]"'
        ) from None
    try:
        yield hub
    except errors.GatedRepoError:
        raise CheckpointError(f'{address}: ask for access on the page of the repository, and set HF_TOKEN') from None
    except errors.RepositoryNotFoundError:
        raise CheckpointError(
            f'{address}: there is no such repository at {hub.constants.ENDPOINT}, or it is private and HF_TOKEN does '
            'not allow to read it'
        ) from None
    except errors.RevisionNotFoundError:
        raise CheckpointError(f'{address}: the repository has no such branch, tag or commit') from None
    except errors.RemoteEntryNotFoundError:
        raise CheckpointError(
            f'{address}: the repository has no such file; name another one: hf://owner/name/file'
        ) from None
    except Exception as error:  # of huggingface_hub, of its HTTP library, or of the system
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f'{address}: {hub.constants.ENDPOINT} does not answer as expected: {first}') from error
