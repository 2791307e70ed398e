"""How a command ends after an error: with one message and an exit status, without a traceback."""

import errno
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
_SHOW_TRACEBACK = 'PROTUNING_MM_TRACEBACK'
_PACKAGES = ('protuning_mm', 'protuning_lab')
Main = TypeVar('Main', bound=Callable[..., None])


def command(main: Main) -> Main:
    """Decorate the ``main(argv)`` of a command, so that every error ends it as documented.

    Exit status: 0 on success, 1 after an error, 2 if the flags are wrong (set by argparse), 130 after Ctrl-C.
    """
    return _short_errors()(main)


@contextmanager
def _short_errors() -> Iterator[None]:
    """Exit with status 1 and one message instead of a traceback, or with status 130 after Ctrl-C.

    For errors of this package and for files that cannot be opened, only the message is printed. Any other error may be
    a fault in a config, in custom code or in this package: its traceback is written to a file, which the message names.
    ``PROTUNING_MM_TRACEBACK=1`` shows tracebacks as Python does.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # set by tools/*.py for the time of the imports
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if _was_interrupted(error):
            print('stopped by Ctrl-C; all files written so far are complete', file=sys.stderr)
            raise SystemExit(130) from None
        if os.environ.get(_SHOW_TRACEBACK):
            raise
        raise SystemExit(f'error: {_message(error)}') from None


def _was_interrupted(error: BaseException | None) -> bool:
    """Return whether Ctrl-C caused an error, such as one that a library raised in a bare ``except``."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _message(error: BaseException) -> str:
    text = _own_message(error)
    if type(error).__module__.partition('.')[0] in _PACKAGES:
        return text
    if isinstance(error, ModuleNotFoundError) and error.name == 'mmcv._ext':
        from protuning_mm.doctor.versions import INSTALL_OPERATORS

        return f'mmcv has no compiled operators, and this model needs them: {INSTALL_OPERATORS} (docs/install.md)'
    if isinstance(error, BrokenPipeError):
        # `command | head`: the reader has closed the pipe, and the interpreter must not flush to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 'the reader of the output has closed the pipe'
    if isinstance(error, OSError) and error.errno in _DISK:
        where = f': {error.filename}' if error.filename else ''
        return f'{error.strerror}{where}. All saved checkpoints are complete: free some space, then use --resume'
    if isinstance(error, OSError) and error.filename:
        return f'{error.strerror}: {error.filename}'
    if isinstance(error, KeyError) and error.args:
        text = str(error.args[0])  # str(error) would add quotes
    return f'{text or "no message"} ({type(error).__name__}; {_save_traceback(error)})'


def _save_traceback(error: BaseException) -> str:
    """Write the traceback to a file, and return a text that says where it is."""
    path = Path(tempfile.gettempdir()) / f'protuning_mm_traceback_{os.getpid()}.txt'
    try:
        path.write_text(''.join(traceback.format_exception(error)))
    except OSError:
        return f'{_SHOW_TRACEBACK}=1 shows the traceback'
    return f'traceback in {path}'


def _own_message(error: BaseException) -> str:
    """Return an error's message, without the traceback that torch prepends to errors of a data loader's workers."""
    text, kind = str(error), type(error)
    if not text.startswith(f'Caught {kind.__name__} in '):
        return text
    name = kind.__qualname__ if kind.__module__ == 'builtins' else f'{kind.__module__}.{kind.__qualname__}'
    _, found, own = text.rpartition(f'\n{name}: ')
    return own.rstrip('\n') if found else text
