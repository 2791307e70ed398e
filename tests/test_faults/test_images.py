"""Images that are not what a data set should hold: the right pixels, or an error that names the file.

Expected pixels come from Pillow and numpy. What is read is what the hosts' pipelines read: mmcv's LoadImageFromFile.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from PIL import Image

from protuning_mm.data import DataError
from protuning_mm.data.truncated_images import is_truncated
from protuning_mm.patches import patch_image_loading

HEIGHT, WIDTH = 120, 160


@pytest.fixture(autouse=True)
def named() -> None:
    patch_image_loading()


def picture() -> np.ndarray:
    """(H, W, 3), RGB: smooth, so that JPEG changes little, and without any symmetry."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([x * 255 // WIDTH, y * 255 // HEIGHT, (x + y) * 255 // (WIDTH + HEIGHT)], -1).astype(np.uint8)


def read(path: Path, **more: Any) -> np.ndarray:
    """(H, W, 3), RGB."""
    return LoadImageFromFile()(dict(img_path=str(path), **more))['img'][..., ::-1]


def grey() -> np.ndarray:
    return np.repeat(np.asarray(Image.fromarray(picture()).convert('L'))[..., None], 3, -1)


def pillow(path: Path, mode: str, **kwargs: Any) -> None:
    Image.fromarray(picture()).convert(mode).save(path, **kwargs)


def deep(path: Path) -> None:
    cv2.imwrite(str(path), picture()[..., ::-1].astype(np.uint16) * 257)


def deep_grey(path: Path) -> None:
    cv2.imwrite(str(path), grey()[..., 0].astype(np.uint16) * 257)


READ: dict[str, tuple[str, Callable[[Path], None], Callable[[], np.ndarray], int]] = {
    # name of the file, how it is written, what is right, the largest difference of a pixel
    'jpeg': ('a.jpg', lambda p: pillow(p, 'RGB', quality=95), picture, 8),
    'png': ('a.png', lambda p: pillow(p, 'RGB'), picture, 0),
    '16-bit': ('a.png', deep, picture, 0),
    '16-bit grey': ('a.tif', deep_grey, grey, 0),
    'grey jpeg': ('a.jpg', lambda p: pillow(p, 'L', quality=95), grey, 8),
    'grey with alpha': ('a.png', lambda p: pillow(p, 'LA'), grey, 0),
    'alpha': ('a.png', lambda p: pillow(p, 'RGBA'), picture, 0),
    'cmyk jpeg': ('a.jpg', lambda p: pillow(p, 'CMYK', quality=95), picture, 8),
    'progressive': ('a.jpg', lambda p: pillow(p, 'RGB', quality=95, progressive=True), picture, 8),
    'bmp': ('a.bmp', lambda p: pillow(p, 'RGB'), picture, 0),
    'another ending': (
        'a.jpg',
        lambda p: pillow(p.with_suffix('.png'), 'RGB') or p.with_suffix('.png').rename(p),
        picture,
        0,
    ),
    'space': ('a b.png', lambda p: pillow(p, 'RGB'), picture, 0),
    'unicode': ('ünï – 画像.png', lambda p: pillow(p, 'RGB'), picture, 0),
    'signs': ('a#b%20&c=d;e\'f"g.png', lambda p: pillow(p, 'RGB'), picture, 0),
    'new line': ('a\nb.png', lambda p: pillow(p, 'RGB'), picture, 0),
    'long name': ('a' * 240 + '.png', lambda p: pillow(p, 'RGB'), picture, 0),
}


@pytest.mark.parametrize('kind', list(READ))
def test_reads_the_right_pixels(kind: str, tmp_path: Path) -> None:
    name, write, expected, tolerance = READ[kind]
    write(tmp_path / name)
    got = read(tmp_path / name)
    assert got.shape == (HEIGHT, WIDTH, 3) and got.dtype == np.uint8
    assert int(np.abs(got.astype(int) - expected()).max()) <= tolerance


@pytest.mark.parametrize(('height', 'width'), [(1, 1), (1, 300), (12, 20_000)])
def test_extreme_sizes(height: int, width: int, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'a.png')
    assert np.array_equal(read(tmp_path / 'a.png'), pixels)


@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_orientation(orientation: int, tmp_path: Path) -> None:
    """OpenCV turns the picture; annotations of the picture as it lies in the file would not fit, and are refused."""
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x112] = orientation
    Image.fromarray(picture()).save(tmp_path / 'a.jpg', quality=95, exif=exif)
    with Image.open(tmp_path / 'a.jpg') as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    got = read(tmp_path / 'a.jpg', height=expected.shape[0], width=expected.shape[1])
    assert got.shape == expected.shape
    assert int(np.abs(got.astype(int) - expected).max()) <= 8
    if orientation >= 5:
        with pytest.raises(DataError, match='turns the image by its EXIF orientation') as caught:
            read(tmp_path / 'a.jpg', height=HEIGHT, width=WIDTH)
        as_it_lies = LoadImageFromFile(color_type='color_ignore_orientation')
        advised = as_it_lies(dict(img_path=str(tmp_path / 'a.jpg'), height=HEIGHT, width=WIDTH))['img'][..., ::-1]
        assert int(np.abs(advised.astype(int) - picture()).max()) <= 8
        assert 'a.jpg' in str(caught.value) and '120x160' in str(caught.value) and '160x120' in str(caught.value)


@pytest.mark.parametrize('orientation', [None, 1, 3, 6])
def test_height_and_width_that_are_swapped_in_the_annotations(orientation: int | None, tmp_path: Path) -> None:
    """EXIF is blamed where it turns the image, and nowhere else."""
    exif = Image.Exif()
    if orientation is not None:
        exif[0x112] = orientation
    Image.fromarray(picture()).save(tmp_path / 'a.jpg', exif=exif)
    turns = orientation == 6
    swapped = dict(height=HEIGHT, width=WIDTH) if turns else dict(height=WIDTH, width=HEIGHT)
    with pytest.raises(DataError, match='a.jpg') as caught:
        read(tmp_path / 'a.jpg', **swapped)
    assert ('turns the image by its EXIF orientation' in str(caught.value)) == turns
    assert ('height and width are swapped in the annotations. Swap them' in str(caught.value)) == (not turns)


def test_annotations_of_the_turned_image_where_orientation_is_ignored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    Image.fromarray(picture()).save(tmp_path / 'a.jpg', exif=exif)
    as_it_lies = LoadImageFromFile(color_type='color_ignore_orientation')
    with pytest.raises(DataError, match='orientation is ignored.*Remove that color_type'):
        as_it_lies(dict(img_path=str(tmp_path / 'a.jpg'), height=WIDTH, width=HEIGHT))
    LoadImageFromFile()(dict(img_path=str(tmp_path / 'a.jpg'), height=WIDTH, width=HEIGHT))  # as advised


def jpeg(**kwargs: Any) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, 'JPEG', **kwargs)
    return file.getvalue()


def png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture()).save(file, 'PNG')
    return file.getvalue()


@pytest.mark.parametrize('share', [0.02, 0.3, 0.5, 0.9, 0.999])
@pytest.mark.parametrize('make', [jpeg, lambda: jpeg(progressive=True), png])
def test_truncated(make: Callable[[], bytes], share: float, tmp_path: Path) -> None:
    """OpenCV would hand out the upper part, grey below, with a line on stderr at the most."""
    data = make()
    (tmp_path / 'a.jpg').write_bytes(data)
    read(tmp_path / 'a.jpg')
    (tmp_path / 'a.jpg').write_bytes(data[: min(int(len(data) * share), len(data) - 13)])
    with pytest.raises(DataError, match='a.jpg.*(is truncated|cannot be decoded)'):
        read(tmp_path / 'a.jpg')


def test_what_stands_behind_the_end_is_no_fault(tmp_path: Path) -> None:
    """A thumbnail within, a video behind (phones do that), padding between segments."""
    thumbnail = jpeg(quality=5)[:3000]
    whole = jpeg()
    within = whole[:2] + b'\xff\xe5' + (len(thumbnail) + 2).to_bytes(2, 'big') + thumbnail + b'\xff\xff' + whole[3:]
    for data in (within, whole + b'\xff\xda' + bytes(range(256)) * 30, whole + b'\0'):
        (tmp_path / 'a.jpg').write_bytes(data)
        assert not is_truncated(tmp_path / 'a.jpg')
        read(tmp_path / 'a.jpg')
    (tmp_path / 'a.jpg').write_bytes(within[: len(within) - 300])
    assert is_truncated(tmp_path / 'a.jpg')


@pytest.mark.parametrize('content', [b'', b'no image', b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n', bytes(1000)])
def test_no_image_at_all(content: bytes, tmp_path: Path) -> None:
    (tmp_path / 'a.jpg').write_bytes(content)
    with pytest.raises(DataError, match=f'a.jpg.*{len(content)} bytes.*cannot be decoded as an image'):
        read(tmp_path / 'a.jpg')


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match='but there is no such file'):
        read(tmp_path / 'a.jpg')
    (tmp_path / 'b.jpg').mkdir()
    with pytest.raises(DataError, match='b.jpg'):
        read(tmp_path / 'b.jpg')
