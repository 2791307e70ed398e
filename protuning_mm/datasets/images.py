"""An image that cannot be decoded is named, wherever in the data set it is."""

from functools import wraps
from pathlib import Path
from typing import Any

from mmcv.transforms import LoadImageFromFile

from protuning_mm.datasets.errors import DataError


def name_undecodable_images() -> None:
    """Make mmcv's ``LoadImageFromFile`` say which file it failed on.

    On an empty file OpenCV raises its own error, in which no file is named. The class is mended in place, and not
    replaced in the pipelines, because the hosts' inferencers look for it by name in the config that a run leaves.
    """
    load = LoadImageFromFile.transform
    if hasattr(load, '__wrapped__'):
        return

    @wraps(load)
    def transform(self: LoadImageFromFile, results: dict[str, Any]) -> dict[str, Any] | None:
        try:
            return load(self, results)
        except Exception as error:
            raise DataError(_reason(results.get('img_path'), error)) from error

    LoadImageFromFile.transform = transform


def _reason(path: Any, error: Exception) -> str:
    if isinstance(path, str) and not Path(path).exists() and '://' not in path:
        return f'the data set names {path!r}, but there is no such file'
    size = f'{Path(path).stat().st_size} bytes' if Path(str(path)).is_file() else 'size unknown'
    first = (str(error).splitlines() or [''])[0]
    return (
        f'{path!r} ({size}) cannot be decoded as an image: {type(error).__name__} {first} '
        'Mend the file, or take it out of the annotations.'
    )
