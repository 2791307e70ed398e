"""Writing a file so that a kill or a full disk at any moment leaves the old one or the new one, whole."""

import os
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from protuning_mm.weights.checksum import append_checksum


def write_atomically(data: bytes, path: str | os.PathLike[str]) -> None:
    """Write aside, flush to the disk, rename.

    Args:
        data (bytes): The whole content.
        path (str | PathLike): The file; its folder is made where it is missing.

    Raises:
        OSError: the disk is full or the folder cannot be written; the file is as it was before.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A fixed name: what a killed run left here is overwritten when its step is saved again.
    aside = path.with_name(f'.{path.name}.part')
    try:
        with aside.open('wb') as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
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
    """mmengine's local files, with ``put`` atomic, and what ``torch.save`` made sealed."""

    def put(self, obj: bytes | memoryview, filepath: str | Path) -> None:
        write_atomically(append_checksum(bytes(obj)), filepath)


def write_every_file_whole() -> None:
    """Make mmengine's own local files atomic for this process: predictions and results that metrics dump.

    mmengine opens the old file and writes into it: a kill leaves neither the old nor the new one.
    """

    def put(self: LocalBackend, obj: bytes, filepath: str | Path) -> None:
        write_atomically(bytes(obj), filepath)

    def put_text(self: LocalBackend, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        write_atomically(obj.encode(encoding), filepath)

    LocalBackend.put, LocalBackend.put_text = put, put_text
