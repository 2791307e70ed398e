"""Corruptions: the right pixels, and the same ones in every epoch."""

from io import BytesIO

import numpy as np
import pytest
from mmpretrain.registry import TRANSFORMS
from PIL import Image
from skimage import data

from protuning_mm.data import DataError
from protuning_mm.data.corruptions import CORRUPTIONS, SEVERITIES

PHOTO = np.ascontiguousarray(data.astronaut()[100:140, 200:250])  # RGB, 40x50
BY_CHANCE = set(CORRUPTIONS) - {'defocus_blur', 'zoom_blur', 'brightness', 'contrast', 'pixelate', 'jpeg_compression'}


def corrupt(image: np.ndarray, index: int = 0, **kwargs: object) -> dict:
    """Build the transform from mmpretrain's registry, as a pipeline does, and apply it."""
    step = TRANSFORMS.build(dict(type='protuning_mm.Corrupt', **{'channel_order': 'rgb'} | kwargs))
    return step(dict(img=image.copy(), sample_idx=index, gt_label=1))


def test_pixels_are_those_of_an_independent_computation() -> None:
    """ImageNet-C's severity 3: contrast of 0.2 around the mean, JPEG at quality 15."""
    mean = PHOTO.mean((0, 1), keepdims=True)
    found = corrupt(PHOTO, corruption='contrast')
    assert np.abs(found['img'] - (mean + 0.2 * (PHOTO - mean))).max() <= 1
    assert (found['corruption'], found['severity'], found['generated'], found['gt_label']) == ('contrast', 3, True, 1)
    file = BytesIO()
    Image.fromarray(PHOTO).save(file, 'JPEG', quality=15)
    jpeg = np.array(Image.open(file))
    assert np.array_equal(corrupt(PHOTO, corruption='jpeg_compression')['img'], jpeg)
    turned = corrupt(PHOTO[..., ::-1], corruption='jpeg_compression', channel_order='bgr')
    assert np.array_equal(turned['img'], jpeg[..., ::-1])


@pytest.mark.parametrize(
    'corruption', [pytest.param(c, marks=pytest.mark.slow) if c == 'glass_blur' else c for c in CORRUPTIONS]
)
def test_every_corruption_in_every_severity(corruption: str) -> None:
    """Random numbers depend only on seed and index; the strongest severity differs most from the clean image."""
    np.random.seed(7)
    expected = np.random.random()
    np.random.seed(7)
    images = [corrupt(PHOTO, corruption=corruption, severity=s)['img'] for s in SEVERITIES]
    assert np.random.random() == expected, 'the global random state changed'
    assert all(image.shape == PHOTO.shape and image.dtype == np.uint8 for image in images)
    distance = [np.abs(image - PHOTO.astype(float)).mean() for image in images]
    assert distance[0] > 1 and (distance[-1] > distance[0] or corruption in ('frost', 'fog'))
    again, seed, index = (
        corrupt(PHOTO, corruption=corruption, severity=5, **kwargs)['img']
        for kwargs in (dict(), dict(seed=1), dict(index=1))
    )
    assert np.array_equal(images[-1], again)
    for other in (seed, index):
        assert np.array_equal(images[-1], other) is (corruption not in BY_CHANCE)


@pytest.mark.parametrize(
    ('kwargs', 'said'),
    [
        (dict(corruption='rain'), "corruption='rain'; there are gaussian_noise, shot_noise"),
        (dict(severity=6), 'severity=6; there are 1'),
        (dict(channel_order='hsv'), "channel_order='hsv'"),
        (dict(image=PHOTO[:8, :8]), 'an image of shape .8, 8, 3. and type uint8 .* 32 px a side'),
        (dict(image=PHOTO.astype(np.float32)), 'type float32'),
    ],
)
def test_invalid_arguments(kwargs: dict, said: str) -> None:
    with pytest.raises(DataError, match=said):
        corrupt(**dict(image=PHOTO) | kwargs)
