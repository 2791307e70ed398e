"""What can be wrong with a data set."""


class DataError(RuntimeError):
    """A file is missing or unreadable, or the annotations are not what the config says."""
