"""What stops a run before its first iteration because its config is wrong."""


class ConfigError(ValueError):
    """A config is missing, cannot be read, or an option does not fit it."""


class MismatchError(ValueError):
    """The model, the data sets and the evaluators of a config do not fit each other."""
