"""Errors of checkpoints and frozen tensors."""


class CheckpointError(RuntimeError):
    """A checkpoint is missing or damaged, does not fit, or would run code when it is loaded."""


class OtherBaseError(CheckpointError):
    """A delta was trained on another base than the model has, and its own base cannot be found."""


class FrozenWeightsError(RuntimeError):
    """The frozen tensors of a backbone are not the pre-trained ones, or a checkpoint would not fill them completely."""
