"""Atomic writes: whenever the process is killed or the disk is full, either the old or the new file is there."""

import os
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from protuning_mm.weights.checksum import append_checksum


def write_atomically(data: bytes, path: str | os.PathLike[str]) -> None:
    """Write a temporary file beside the target, flush it to the disk, and rename it.

    Args:
        data (bytes): The whole content.
        path (str | PathLike): The file. A missing folder is created.

    Raises:
        OSError: the disk is full or the folder is not writable. An existing file is unchanged.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A fixed name, so that the next save overwrites what a killed run has left here.
    temporary = path.with_name(f'.{path.name}.part')
    try:
        with temporary.open('wb') as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@register_backend('atomic_local', force=True)
class AtomicLocalBackend(LocalBackend):
    """mmengine's local files, with an atomic ``put`` that adds a checksum to files of ``torch.save``."""

    def put(self, obj: bytes | memoryview, filepath: str | Path) -> None:
        write_atomically(append_checksum(bytes(obj)), filepath)


def put_atomically(self: LocalBackend, obj: bytes | memoryview, filepath: str | Path) -> None:
    """``LocalBackend.put``, atomic; :func:`protuning_mm.patches.patch_file_writing` installs it."""
    write_atomically(bytes(obj), filepath)


def put_text_atomically(self: LocalBackend, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
    """``LocalBackend.put_text``, atomic; :func:`protuning_mm.patches.patch_file_writing` installs it."""
    write_atomically(obj.encode(encoding), filepath)
