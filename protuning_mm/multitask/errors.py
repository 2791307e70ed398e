"""Errors of tasks on a shared backbone."""


class MultiTaskError(ValueError):
    """A task does not exist, does not fit the other tasks, or cannot be built."""


class AnotherBaseError(MultiTaskError):
    """A task has other frozen tensors than the tasks before it.

    Args:
        message (str): The whole message.
        difference (str): How the frozen tensors differ.
    """

    def __init__(self, message: str, difference: str) -> None:
        super().__init__(message)
        self.difference = difference
