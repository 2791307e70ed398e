"""What is wrong with tasks that are served together."""


class MultiTaskError(ValueError):
    """A task does not fit beside the others, or is not there."""
