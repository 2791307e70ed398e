"""Addresses of weights that a checkpoint names: which of them may be read."""

import re
from collections.abc import Mapping
from typing import Any

# Allowed are names in a library's own table, local files, and files in the folders of these publishers.
_SCHEMES = ('torchvision', 'modelzoo', 'open-mmlab', 'openmmlab', 'mmcls', 'timm', 'pip')
_PUBLISHERS = (
    'download.pytorch.org',
    'download.openmmlab.com',
    'dl.fbaipublicfiles.com',
    'github.com/SwinTransformer/storage',
)
# Refused are '..' in any spelling, empty parts, users, ports, queries and a second scheme. OpenMMLab's folders contain
# a '+' (%2B).
_PART = r'(?!\.+(?:/|$))(?:[\w.+~-]|%2B)+'
_PARTS = rf'{_PART}(?:/{_PART})*'
_NAME = re.compile(rf'(?:{"|".join(_SCHEMES)})://{_PARTS}|timm://hf[-_]hub:{_PARTS}', re.ASCII)
_URL = re.compile(rf'https://(?:{"|".join(map(re.escape, _PUBLISHERS))})/{_PARTS}', re.ASCII)
_MAX_LENGTH = 1024
FROZEN_SOURCES = 'frozen_sources'  # key in a checkpoint's meta: where its frozen tensors came from


def explain_refusal(source: Any) -> str | None:
    """Explain why an address that a checkpoint names must not be read.

    Args:
        source: The address, from an untrusted file.

    Returns:
        str, optional: The reason; None if the address may be read.
    """
    if isinstance(source, str) and source.isprintable() and 0 < len(source) <= _MAX_LENGTH:
        if _NAME.fullmatch(source) or _URL.fullmatch(source):
            return None
        # on Windows, a path that begins with two slashes is on another machine
        if '://' not in source and not source.startswith(('//', '\\\\')):
            return None
    return (
        f'not fetched: a checkpoint may only name {", ".join(f"{s}://" for s in _SCHEMES)}, a local file, or a file of '
        f'https://{_PUBLISHERS[0]} and other known publishers'
    )


def read_frozen_sources(checkpoint: Mapping[str, Any]) -> dict[str, tuple[str | None, str | None]]:
    """Read from a checkpoint's meta where its frozen tensors came from.

    Entries of another form are omitted. Check each source with :func:`explain_refusal` before you read it.

    Args:
        checkpoint (Mapping): A loaded checkpoint.

    Returns:
        dict: Source and prefix by the name of the backbone.
    """
    meta = checkpoint.get('meta')
    sources = meta.get(FROZEN_SOURCES) if isinstance(meta, Mapping) else None
    pairs = sources.items() if isinstance(sources, Mapping) else ()
    return {
        name: (pair[0], pair[1])
        for name, pair in pairs
        if isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(p, str | None) for p in pair)
    }
