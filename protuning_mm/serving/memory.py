"""Memory of the process."""

import ctypes
import sys


def return_freed_memory() -> None:
    """Give freed memory back to the system; on Linux with glibc only.

    A task is built whole before it shares the base. Without this, the process keeps the memory of that second base.
    """
    if sys.platform == 'linux':
        getattr(ctypes.CDLL(None), 'malloc_trim', int)(0)
