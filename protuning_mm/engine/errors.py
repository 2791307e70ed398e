"""What stops a run before its first iteration because parts of its config do not fit each other."""


class MismatchError(ValueError):
    """The model, the data sets and the evaluators of a config do not fit each other."""
