"""The fifteen common corruptions of ImageNet-C, computed by the library ``imagecorruptions``."""

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from numpy.typing import NDArray

from protuning_mm.data.errors import DataError
from protuning_mm.registry import TRANSFORMS

_NOISE = ('gaussian_noise', 'shot_noise', 'impulse_noise')
_BLUR = ('defocus_blur', 'glass_blur', 'motion_blur', 'zoom_blur')
_WEATHER = ('snow', 'frost', 'fog', 'brightness')
_DIGITAL = ('contrast', 'elastic_transform', 'pixelate', 'jpeg_compression')
CORRUPTIONS = _NOISE + _BLUR + _WEATHER + _DIGITAL
SEVERITIES = (1, 2, 3, 4, 5)
GENERATED_MARK = 'generated.json'  # in a folder whose corrupted images were generated, not published
_SMALLEST = 32


@TRANSFORMS.register_module()
class Corrupt(BaseTransform):
    """Corrupts an image as `ImageNet-C <https://arxiv.org/abs/1903.12261>`_ does (Hendrycks and Dietterich, ICLR 2019).

    Images of every size get the strengths of ImageNet-C, which were chosen for 224 px. The authors of CIFAR-10-C used
    weaker ones for 32 px. Corrupted CIFAR images are therefore harder than CIFAR-10-C, and their accuracy is not
    comparable with published results. An image gets the same corruption in every epoch: the random numbers depend only
    on the seed, the corruption, the severity and the image's index in its data set.

    Required keys: ``img`` (uint8, three channels, at least 32 px a side), ``sample_idx``. Added keys:
    ``corruption``, ``severity``, ``generated``, for ``protuning_mm.CorruptionAccuracy``.

    Args:
        corruption (str, optional): One of ``CORRUPTIONS``. None takes corruption and severity from the sample, where
            ``protuning_mm.Corrupted`` writes them. Defaults to ``'gaussian_noise'``.
        severity (int): From 1 to 5. Defaults to 3.
        seed (int): Seed of the random numbers. Defaults to 0.
        channel_order (str): ``'bgr'``, as mmcv loads files, or ``'rgb'``, as in mmpretrain's CIFAR. Defaults to
            ``'bgr'``.

    Raises:
        DataError: the corruption, severity or channel order does not exist, or the image is too small.
    """

    def __init__(
        self, corruption: str | None = 'gaussian_noise', severity: int = 3, seed: int = 0, channel_order: str = 'bgr'
    ) -> None:
        if corruption is not None:
            check_corruption(corruption, severity)
        if channel_order not in ('bgr', 'rgb'):
            raise DataError(f"Corrupt: channel_order={channel_order!r}; there are 'bgr' and 'rgb'")
        self.corruption, self.severity, self.seed, self.channel_order = corruption, severity, seed, channel_order

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        turn = slice(None, None, -1 if self.channel_order == 'bgr' else 1)
        corruption, severity = self.corruption, self.severity
        if corruption is None:
            corruption, severity = results['corruption'], results['severity']
        entropy = (self.seed, int(results['sample_idx']))
        image = corrupt_image(results['img'][..., turn], corruption, severity, entropy)[..., turn]
        return results | dict(img=image, corruption=corruption, severity=severity, generated=True)

    def __repr__(self) -> str:
        return f'Corrupt({self.corruption!r}, severity={self.severity}, seed={self.seed})'


def check_corruption(corruption: str, severity: int) -> None:
    """Check that a corruption and a severity exist.

    Raises:
        DataError: one of them does not exist.
    """
    if corruption not in CORRUPTIONS:
        raise DataError(f'corruption={corruption!r}; there are {", ".join(CORRUPTIONS)}')
    if severity not in SEVERITIES:
        raise DataError(f'severity={severity}; there are 1, the weakest, to 5')


def corrupt_image(
    image: NDArray[np.uint8], corruption: str, severity: int, entropy: tuple[int, ...]
) -> NDArray[np.uint8]:
    """Corrupt one RGB image; the state of ``numpy.random`` does not change.

    Args:
        image (ndarray): (H, W, 3), uint8, at least 32 px a side.
        corruption (str): One of ``CORRUPTIONS``.
        severity (int): From 1 to 5.
        entropy (tuple[int, ...]): Seeds the random numbers, together with corruption and severity.

    Returns:
        ndarray: (H, W, 3), uint8.

    Raises:
        DataError: the package ``imagecorruptions`` is missing, or the image has another shape or type.
    """
    try:
        from imagecorruptions import corrupt
    except ImportError as error:
        raise DataError(
            f'corruptions need a package that is not installed ({error}): pip install imagecorruptions-imaug'
        ) from None
    if image.dtype != np.uint8 or image.shape[2:] != (3,) or min(image.shape[:2]) < _SMALLEST:
        raise DataError(
            f'an image of shape {image.shape} and type {image.dtype} cannot be corrupted: it needs uint8, three '
            f"channels and {_SMALLEST} px a side. Put dict(type='Resize', scale={_SMALLEST}) before Corrupt."
        )
    at = (CORRUPTIONS.index(corruption), severity)
    seed = int(np.random.SeedSequence((*entropy, *at)).generate_state(1)[0])
    # two of the functions take a seed; the others use numpy's global random state
    seeded = dict(seed=seed) if corruption in ('impulse_noise', 'glass_blur') else {}
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        # a copy, because arrays from Pillow are read-only
        return np.array(corrupt(np.ascontiguousarray(image), severity, corruption, **seeded))
    finally:
        np.random.set_state(state)
