"""Reading JSON files, which several formats look into to find their own."""

import json
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from protuning_mm.conversion.images import list_files
from protuning_mm.data.errors import DataError


@lru_cache(maxsize=8)
def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: the file is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding='utf-8-sig'))
    except ValueError as error:
        raise DataError(f'{path} is no JSON: {error}') from None


def find_json(source: Path, fits: Callable[[Any], bool]) -> list[Path]:
    """Return the JSON files whose content fits: a file, or those below a folder that can be read.

    Raises:
        DataError: a file that was named itself is no JSON.
    """
    if source.is_file():
        return [source] if source.suffix.lower() == '.json' and fits(read_json(source)) else []
    found = []
    for path in list_files(source, frozenset({'.json'})):
        with suppress(DataError):  # a file of another format
            if fits(read_json(path)):
                found.append(path)
    return found
