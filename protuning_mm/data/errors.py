"""The error that all checks of data raise."""


class DataError(RuntimeError):
    """A file is missing or unreadable, or the data do not match the config."""
