"""The error that all checks of data raise."""


class DataError(RuntimeError):
    """A file is missing or unreadable, or the data do not match the config."""


def first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    return (str(error).splitlines() or [''])[0]
