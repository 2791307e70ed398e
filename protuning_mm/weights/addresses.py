"""Where a checkpoint may send its reader: one judgement for every address that a file names."""

import re
from collections.abc import Mapping
from typing import Any

# Allowed: names that a library looks up in its own table, local files, and files in these publishers' folders.
_SCHEMES = ('torchvision', 'modelzoo', 'open-mmlab', 'openmmlab', 'mmcls', 'timm')
_PUBLISHERS = (
    'download.pytorch.org',
    'download.openmmlab.com',
    'dl.fbaipublicfiles.com',
    'github.com/SwinTransformer/storage',
)
# No '..' in any spelling, no empty part, user, port, query or second scheme. OpenMMLab's folders have a '+' (%2B).
_PART = r'(?!\.+(?:/|$))(?:[\w.+~-]|%2B)+'
_PARTS = rf'{_PART}(?:/{_PART})*'
_NAME = re.compile(rf'(?:{"|".join(_SCHEMES)})://{_PARTS}|timm://hf[-_]hub:{_PARTS}', re.ASCII)
_URL = re.compile(rf'https://(?:{"|".join(map(re.escape, _PUBLISHERS))})/{_PARTS}', re.ASCII)
_LONGEST = 1024
SOURCES = 'frozen_sources'  # in a checkpoint's meta: where its frozen tensors came from


def refused(source: Any) -> str | None:
    """Why a place that a checkpoint names is not looked at; None where it is."""
    if isinstance(source, str) and source.isprintable() and 0 < len(source) <= _LONGEST:
        if _NAME.fullmatch(source) or _URL.fullmatch(source):
            return None
        # a path that begins with two slashes is another machine's on Windows
        if '://' not in source and not source.startswith(('//', '\\\\')):
            return None
    return (
        f'not fetched: a checkpoint may send its reader to {", ".join(f"{s}://" for s in _SCHEMES)}, to a local file '
        f'or to a file of https://{_PUBLISHERS[0]} and other known publishers, and this is none of them'
    )


def said_sources(checkpoint: Mapping[str, Any]) -> dict[str, tuple[str | None, str | None]]:
    """Where the frozen tensors came from, as a checkpoint says it: source and prefix by the backbone's name.

    What does not have this form is left out. A source is to be judged by :func:`refused` before it is read.
    """
    meta = checkpoint.get('meta')
    said = meta.get(SOURCES) if isinstance(meta, Mapping) else None
    pairs = said.items() if isinstance(said, Mapping) else ()
    return {
        name: (pair[0], pair[1])
        for name, pair in pairs
        if isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(p, str | None) for p in pair)
    }
