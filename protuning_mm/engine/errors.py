"""Errors in a config that stop a run before its first iteration."""


class ConfigError(ValueError):
    """A config is missing or cannot be read, or an option does not fit it."""


class MismatchError(ValueError):
    """Model, data sets and evaluators of a config do not match."""
