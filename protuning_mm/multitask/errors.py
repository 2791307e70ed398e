"""The error of tasks on a shared backbone."""


class MultiTaskError(ValueError):
    """A task does not exist, does not fit the other tasks, or cannot be built."""
