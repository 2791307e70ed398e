"""Label maps and class folders, converted to what mmseg and mmpretrain read."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from protuning_mm.cli.convert_data import main
from protuning_mm.conversion import convert_data
from protuning_mm.data.data_folder import read_data_folder
from protuning_mm.data.errors import DataError
from tests.mini import REPO

SHARED = REPO.parent / 'shared/data'
ROAD_CLASSES = 'sky,building,pole,road,pavement,tree,sign,fence,car,pedestrian,bicyclist'
TOP, BOTTOM = (128, 0, 64), (0, 0, 0)


def write(path: Path, values: np.ndarray, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    found = Image.fromarray(values)
    if mode == 'P':
        found = found.convert('L')
        found = Image.fromarray(values).convert('P')
        found.putdata(values.ravel().tolist())
    found.save(path)


def halves(top: object, bottom: object) -> np.ndarray:
    """A map of 4 × 6 pixels with one value above and one below."""
    return np.array([[top] * 6] * 2 + [[bottom] * 6] * 2, np.uint8)


def write_maps(root: Path, values: dict[str, np.ndarray], ending: str = '', mode: str | None = None) -> Path:
    for name, found in values.items():
        write(root / f'images/{name}.jpg', np.zeros((4, 6, 3), np.uint8))
        write(root / f'masks/{name}{ending}.png', found, mode)
    return root


def read_maps(out: Path) -> dict[str, np.ndarray]:
    """Read the maps of each image as mmseg's data set finds them."""
    from mmseg.datasets import BaseSegDataset

    folder, found = read_data_folder(out), {}
    for split in folder.splits:
        dataset = BaseSegDataset(
            ann_file=folder.annotations(split),
            data_prefix=dict(img_path=folder.images(split), seg_map_path=str(out / 'labels')),
            img_suffix='',
            seg_map_suffix='.png',
            metainfo=dict(classes=folder.classes),
        )
        for i in range(len(dataset)):
            info = dataset.get_data_info(i)
            assert Path(info['img_path']).is_file()
            found[f'{split}/{Path(info["img_path"]).stem}'] = np.asarray(Image.open(info['seg_map_path']))
    return found


def test_maps_of_colours(tmp_path: Path) -> None:
    maps = {f'{split}/{split}': halves(TOP, BOTTOM) for split in ('train', 'val', 'test')}
    maps['train/stray'] = halves(TOP, (9, 9, 9))
    root = write_maps(tmp_path / 'maps', maps, ending='_L')
    (root / 'class_dict.csv').write_text('name,r,g,b\nfloor,0,0,0\nwall,128,0,64\n')
    folder, findings = convert_data(root, tmp_path / 'out')
    assert folder.classes == ('floor', 'wall') and folder.palette == (BOTTOM, TOP)
    found = read_maps(tmp_path / 'out')
    assert sorted(found) == ['test/test', 'train/stray', 'train/train', 'val/val']
    assert np.array_equal(found['train/train'], halves(1, 0))
    assert np.array_equal(found['train/stray'], halves(1, 255))
    assert list(findings) == ['1 maps with the value (9, 9, 9), which is no class: ignored there: 255 (stray_L.png)']


def test_colours_without_names(tmp_path: Path) -> None:
    root = write_maps(tmp_path / 'maps', {'train/a': halves(TOP, BOTTOM), 'val/b': halves(BOTTOM, BOTTOM)})
    folder, findings = convert_data(root, tmp_path / 'out')
    assert folder.palette == (BOTTOM, TOP) and folder.classes == ('colour_0_0_0', 'colour_128_0_64')
    assert np.array_equal(read_maps(tmp_path / 'out')['val/b'], halves(0, 0))  # grey throughout
    assert '2 colours without a name: numbered in order' in ''.join(findings)
    named, _ = convert_data(root, tmp_path / 'out', classes=['floor', 'wall'])
    assert named.classes == ('floor', 'wall')
    with pytest.raises(DataError, match='the maps have 2 colours, .* but 3 names'):
        convert_data(root, tmp_path / 'out', classes=['floor', 'wall', 'roof'])


@pytest.mark.parametrize('mode', [None, 'P'])
def test_maps_of_indices(tmp_path: Path, mode: str | None) -> None:
    root = write_maps(tmp_path / 'maps', {'train/a': halves(0, 2), 'val/b': halves(1, 255)}, '_mask', mode)
    write(root / 'masks/train/none.png', halves(0, 0))
    write(root / 'images/train/bare.jpg', np.zeros((4, 6, 3), np.uint8))
    (root / 'classes.txt').write_text('floor\nwall\n')
    folder, findings = convert_data(root, tmp_path / 'out')
    assert folder.classes == ('floor', 'wall') and folder.palette is None
    found = read_maps(tmp_path / 'out')
    assert np.array_equal(found['train/a'], halves(0, 255)) and np.array_equal(found['val/b'], halves(1, 255))
    assert list(findings) == [
        '1 label maps without an image: left out (none.png)',
        '1 images without a label map: left out (bare.jpg)',
        '1 maps with the value 2, which is no class: ignored there: 255 (a_mask.png)',
    ]


def test_maps_of_0_and_255(tmp_path: Path) -> None:
    root = write_maps(tmp_path / 'maps', {'train/a': halves(0, 255), 'val/b': halves(255, 255)})
    folder, findings = convert_data(root, tmp_path / 'out')
    assert folder.classes == ('background', 'foreground')
    assert np.array_equal(read_maps(tmp_path / 'out')['train/a'], halves(0, 1))
    assert list(findings) == ['2 maps of 0 and 255: 255 is the class "foreground" (a.png)']


def test_named_maps_of_0_and_255(tmp_path: Path) -> None:
    root = write_maps(tmp_path / 'maps', {'train/a': halves(0, 255), 'val/b': halves(0, 0)})
    folder, findings = convert_data(root, tmp_path / 'out', classes=['field', 'road'])
    assert folder.classes == ('field', 'road') and np.array_equal(read_maps(tmp_path / 'out')['train/a'], halves(0, 1))
    assert list(findings) == ['2 maps of 0 and 255: 255 is the class "road" (a.png)']
    ignored = write_maps(tmp_path / 'more', {'train/a': halves(1, 255), 'val/b': halves(0, 1)})
    convert_data(ignored, tmp_path / 'out', classes=['background', 'foreground'])
    assert np.array_equal(read_maps(tmp_path / 'out')['train/a'], halves(1, 255))


def test_chosen_classes_of_maps(tmp_path: Path) -> None:
    """Their names say which indices or colours are meant."""
    root = write_maps(tmp_path / 'maps', {'train/a': halves(0, 2), 'val/b': halves(1, 2)})
    (root / 'classes.txt').write_text('floor\nwall\nsky\n')
    folder, _ = convert_data(root, tmp_path / 'out', classes=['sky', 'floor'])
    found = read_maps(tmp_path / 'out')
    assert np.array_equal(found['train/a'], halves(1, 0)) and np.array_equal(found['val/b'], halves(255, 0))
    colours = write_maps(tmp_path / 'colours', {'train/a': halves(TOP, BOTTOM), 'val/b': halves(TOP, TOP)})
    (colours / 'class_dict.csv').write_text('name,r,g,b\nfloor,0,0,0\nwall,128,0,64\n')
    folder, _ = convert_data(colours, tmp_path / 'out', classes=['wall', 'floor'])
    assert folder.palette == (TOP, BOTTOM)
    assert np.array_equal(read_maps(tmp_path / 'out')['train/a'], halves(0, 1))
    with pytest.raises(DataError, match="has no colour of 'roof'; it has floor, wall"):
        convert_data(colours, tmp_path / 'out', classes=['roof'])


def test_maps_without_images(tmp_path: Path) -> None:
    write(tmp_path / 'maps/images/train/a.jpg', np.zeros((4, 6, 3), np.uint8))
    write(tmp_path / 'maps/masks/train/a_unknown.png', halves(0, 1))
    with pytest.raises(DataError, match='no label map has the name of an image\n  1 label maps without an image'):
        convert_data(tmp_path / 'maps', tmp_path / 'out')


def test_map_of_another_size(tmp_path: Path) -> None:
    root = write_maps(tmp_path / 'maps', {'train/a': halves(0, 1), 'train/b': halves(0, 1)[:2], 'val/c': halves(0, 1)})
    folder, findings = convert_data(root, tmp_path / 'out')
    assert folder.splits['train'].count == 1
    assert '1 label maps of another size than their image: left out (b.png)' in list(findings)


@pytest.mark.skipif(not (SHARED / 'camvid').is_dir(), reason='needs the data set CamVid')
def test_camvid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(SHARED / 'camvid'), str(tmp_path / 'out'), '--classes', ROAD_CLASSES])
    folder = read_data_folder(tmp_path / 'out')
    assert {name: split.count for name, split in folder.splits.items()} == dict(train=367, val=101, test=233)
    assert folder.classes == tuple(ROAD_CLASSES.split(','))
    assert 'maps with the value 11, which is no class: ignored there: 255' in capsys.readouterr().out
    name = (tmp_path / 'out/train.txt').read_text().split()[0]
    before = np.asarray(Image.open(SHARED / 'camvid/labels/train' / f'{Path(name).stem}.png'))
    after = np.asarray(Image.open(tmp_path / f'out/labels/{name}.png'))
    assert (before == 11).any() and np.array_equal(after, np.where(before == 11, 255, before))


def test_class_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.zeros((4, 6, 3), np.uint8)
    for name in ('training/cat/one two.jpg', 'training/dog/a.png', 'Test/dog/b.jpg', 'Test/cow/c.jpg'):
        write(tmp_path / 'pets' / name, pixels)
    (tmp_path / 'pets/training/dog/broken.jpg').write_bytes(b'no image')
    main([str(tmp_path / 'pets'), str(tmp_path / 'out'), '--val', '0'])
    assert (tmp_path / 'out/train.txt').read_text() == 'training/cat/one two.jpg 0\ntraining/dog/a.png 1\n'
    assert (tmp_path / 'out/test.txt').read_text() == 'Test/dog/b.jpg 1\n'
    assert capsys.readouterr().out.splitlines() == [
        f'{tmp_path}/out: classification, 2 classes: cat, dog',
        '  train 2 images, test 1 images',
        'Odd in the data, and what was done:',
        '  1 test images of other classes: left out (cow)',
        '  1 images that cannot be read: left out (broken.jpg)',
        f"Use it: data='{tmp_path}/out' in a config, or protuning train CONFIG --data-folder {tmp_path}/out",
    ]


def test_folders_that_are_no_classes(tmp_path: Path) -> None:
    for name in ('images/a.jpg', 'labels/b.jpg'):
        write(tmp_path / 'boxes' / name, np.zeros((4, 6, 3), np.uint8))
    with pytest.raises(DataError, match='no format is recognized; found images, labels'):
        convert_data(tmp_path / 'boxes', tmp_path / 'out')
    for name in ('cat/a.jpg', 'dog/b.jpg', 'dog/c.jpg'):
        write(tmp_path / 'pets' / name, np.zeros((4, 6, 3), np.uint8))
    (tmp_path / 'pets/__MACOSX').mkdir()
    for _ in range(2):  # the second time, the folder of the first is there
        folder, _ = convert_data(tmp_path / 'pets', tmp_path / 'pets/out', val=0.4)
        assert folder.classes == ('cat', 'dog')


def test_class_folders_without_splits(tmp_path: Path) -> None:
    for name in ('cat/a.jpg', 'cat/b.jpg', 'dog/c.jpg', 'dog/d.jpg', 'dog/e.jpg'):
        write(tmp_path / 'pets' / name, np.zeros((4, 6, 3), np.uint8))
    folder, findings = convert_data(tmp_path / 'pets', tmp_path / 'out')
    assert {name: split.count for name, split in folder.splits.items()} == dict(train=4, val=1)
    assert list(findings) == ['1 of 5 training images: drawn as val, because there was none (seed 0)']
