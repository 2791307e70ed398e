"""What can be wrong with a checkpoint."""


class CheckpointError(RuntimeError):
    """A file is missing, damaged, no checkpoint, or wants to run code."""


class FrozenWeightsError(RuntimeError):
    """The frozen tensors of a backbone are not, or would not be, what was pre-trained."""
