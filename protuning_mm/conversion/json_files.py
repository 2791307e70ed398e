"""Reading JSON files, which several formats look into to find their own."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

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
