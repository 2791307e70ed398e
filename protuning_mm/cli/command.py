"""How a command ends when something is wrong: one message, an exit status, no traceback."""

import errno
import functools
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
_SHOW = 'PROTUNING_MM_TRACEBACK'
_PACKAGES = ('protuning_mm', 'protuning_lab')
Main = Callable[[Sequence[str] | None], None]


def command(main: Main) -> Callable[..., None]:
    """Decorate a command's ``main(argv)``: it ends as documented, whatever happens in it.

    Exit status: 0 when all is done, 1 after an error, 2 where the flags are wrong (argparse's), 130 after Ctrl-C.
    """

    @functools.wraps(main)
    def run(argv: Sequence[str] | None = None) -> None:
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # tools/*.py: Ctrl-C during the imports ends at once
            signal.signal(signal.SIGINT, signal.default_int_handler)
        with short_errors():
            main(argv)

    return run


@contextmanager
def short_errors() -> Iterator[None]:
    """Exit with status 1 and one message in the place of a traceback; with 130 after Ctrl-C.

    Errors of this package, and files that cannot be opened, are told by their message alone. Any other error may be a
    fault in a config, in custom code or here: its traceback is kept in a file, which the message names.
    ``PROTUNING_MM_TRACEBACK=1`` shows tracebacks as Python does.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if _was_interrupted(error):
            print('stopped by Ctrl-C; files that were written before are whole', file=sys.stderr)
            raise SystemExit(130) from None
        if os.environ.get(_SHOW):
            raise
        raise SystemExit(f'error: {_message(error)}') from None


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: a bare ``except`` of a library may have raised another in its place."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _message(error: BaseException) -> str:
    said = _own_words(error)
    if type(error).__module__.partition('.')[0] in _PACKAGES:
        return said
    if isinstance(error, BrokenPipeError):  # `command | head`: nobody reads on, and the interpreter must not flush
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 'the output is no longer read'
    if isinstance(error, OSError) and error.errno in _DISK:
        where = f': {error.filename}' if error.filename else ''
        return (
            f'{error.strerror}{where}. Checkpoints that were saved before are whole: make room, and go on with --resume'
        )
    if isinstance(error, OSError) and error.filename:
        return f'{error.strerror}: {error.filename}'
    if isinstance(error, KeyError) and error.args:
        said = str(error.args[0])  # as text it stands between quotes
    return f'{said or "no message"} ({type(error).__name__}; {_kept(error)})'


def _kept(error: BaseException) -> str:
    """Keep the traceback in a file, and say where it is."""
    path = Path(tempfile.gettempdir()) / f'protuning_mm_traceback_{os.getpid()}.txt'
    try:
        path.write_text(''.join(traceback.format_exception(error)))
    except OSError:
        return f'{_SHOW}=1 shows the traceback'
    return f'traceback in {path}'


def _own_words(error: BaseException) -> str:
    """Return an error's message; torch hands one of a loader's worker on with the worker's traceback before it."""
    said, kind = str(error), type(error)
    if not said.startswith(f'Caught {kind.__name__} in '):
        return said
    name = kind.__qualname__ if kind.__module__ == 'builtins' else f'{kind.__module__}.{kind.__qualname__}'
    _, found, own = said.rpartition(f'\n{name}: ')
    return own.rstrip('\n') if found else said
