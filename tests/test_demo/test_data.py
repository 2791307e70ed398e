"""The demo's data: valid formats, the same ground truth in all of them, and nothing shared between the splits.

What is expected comes from the written files and from scikit-learn, not from the generator.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from scipy import ndimage
from sklearn.datasets import load_digits

from demo.data import main, make_data

SPLITS = {'train': ('train2017', 'training', 8), 'val': ('val2017', 'validation', 5)}
DIGITS, STUFF, UNLABELLED = range(10), range(10, 14), 255


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp('demo')
    make_data(root, seed=3, images=SPLITS['train'][2], val_images=SPLITS['val'][2])
    return root


@pytest.fixture(scope='module', params=list(SPLITS))
def split(request):
    return request.param


@pytest.fixture(scope='module')
def coco(root, split):
    return COCO(str(root / f'coco/annotations/instances_{SPLITS[split][0]}.json'))


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def stuff_map(root, split, info):
    return read(root / f'coco/stuffthingmaps/{SPLITS[split][0]}/{Path(info["file_name"]).stem}.png')


def tree(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob('*')) if p.is_file()}


def test_same_seed_same_bytes_and_another_seed_others(tmp_path):
    written = {}
    for name, seed in (('first', 0), ('again', 0), ('other', 1)):
        make_data(tmp_path / name, seed=seed, images=2, val_images=1)
        written[name] = tree(tmp_path / name)
    assert written['first'] == written['again']
    assert set(written['first']) != set() and written['first'] != written['other']
    pictures = [name for name in written['first'] if name.endswith('.jpg')]
    assert all(written['first'][name] != written['other'][name] for name in pictures)


def test_larger_data_set_starts_with_the_same_images(root, tmp_path):
    make_data(tmp_path, seed=3, images=2, val_images=1)
    for path in sorted(tmp_path.glob('*/**/*.[jp][pn]g')):
        assert path.read_bytes() == (root / path.relative_to(tmp_path)).read_bytes()


def test_coco_categories_and_pictures(root, split, coco):
    assert [c['name'] for c in coco.loadCats(coco.getCatIds())] == [str(digit) for digit in DIGITS]
    images = coco.loadImgs(coco.getImgIds())
    assert len(images) == SPLITS[split][2]
    for info in images:
        with Image.open(root / 'coco' / SPLITS[split][0] / info['file_name']) as image:
            assert image.format == 'JPEG' and image.mode == 'RGB'
            assert image.size == (info['width'], info['height']) == (256, 192)
        assert 2 <= len(coco.getAnnIds(info['id'])) <= 5


def test_masks_areas_and_boxes_agree_with_the_maps(root, split, coco):
    for info in coco.loadImgs(coco.getImgIds()):
        labels = stuff_map(root, split, info)
        covered = np.zeros(labels.shape, int)
        for ann in coco.loadAnns(coco.getAnnIds(info['id'])):
            mask = coco.annToMask(ann).astype(bool)
            covered += mask
            assert ann['area'] == mask.sum() >= 150
            ys, xs = np.nonzero(mask)
            box = [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
            assert ann['bbox'] == box
            # labelled pixels of the map within the mask have the mask's category
            inside = labels[mask]
            assert set(inside) <= {ann['category_id'] - 1, UNLABELLED}
            assert (inside != UNLABELLED).mean() > 0.9
        assert covered.max() == 1, 'a pixel belongs to one digit'
        assert not (labels[covered == 0] < 10).any(), 'a digit in the map, but in no mask'


def test_digits_are_drawn_where_the_masks_are(root, split, coco):
    """Pixels change more across the border of a mask than a few pixels outside of it."""
    steps = {'border': [], 'outside': []}
    for info in coco.loadImgs(coco.getImgIds()):
        image = read(root / 'coco' / SPLITS[split][0] / info['file_name']).astype(float)
        gradient = np.hypot(*(ndimage.sobel(image.mean(2), axis) for axis in (0, 1)))
        for ann in coco.loadAnns(coco.getAnnIds(info['id'])):
            mask = coco.annToMask(ann).astype(bool)
            grown = ndimage.binary_dilation(mask, iterations=1)
            shrunk = ndimage.binary_erosion(mask, iterations=1)
            ring = ndimage.binary_dilation(mask, iterations=9) & ~ndimage.binary_dilation(mask, iterations=6)
            steps['border'].append(gradient[grown & ~shrunk].mean())
            steps['outside'].append(gradient[ring].mean())
    border, outside = np.array(steps['border']), np.array(steps['outside'])
    assert (border > outside).mean() > 0.85
    assert border.mean() > 1.5 * outside.mean()


def test_maps_hold_things_stuff_and_unlabelled_edges(root, split, coco):
    seen = set()
    for info in coco.loadImgs(coco.getImgIds()):
        labels = stuff_map(root, split, info)
        assert labels.dtype == np.uint8 and labels.shape == (192, 256)
        assert set(np.unique(labels)) <= {*DIGITS, *STUFF, UNLABELLED}
        assert UNLABELLED in labels and (labels == UNLABELLED).mean() < 0.1
        seen |= set(np.unique(labels))
    assert seen >= {*STUFF, UNLABELLED}


def test_ade_maps_are_the_stuff_maps_shifted_by_one(root, split, coco):
    images = sorted((root / 'ade/images' / SPLITS[split][1]).glob('*.jpg'))
    maps = sorted((root / 'ade/annotations' / SPLITS[split][1]).glob('*.png'))
    assert [p.stem for p in images] == [p.stem for p in maps]
    infos = coco.loadImgs(coco.getImgIds())
    assert len(images) == len(infos)
    for image, ade, info in zip(images, maps, infos, strict=True):
        assert image.read_bytes() == (root / 'coco' / SPLITS[split][0] / info['file_name']).read_bytes()
        reduced = read(ade).astype(int) - 1  # like reduce_zero_label=True
        reduced[reduced == -1] = UNLABELLED
        np.testing.assert_array_equal(reduced, stuff_map(root, split, info))


def test_class_folders_hold_every_digit(root, split, coco):
    folders = sorted(path.name for path in (root / 'cls' / split).iterdir())
    assert folders == [str(digit) for digit in DIGITS]
    for digit in DIGITS:
        crops = list((root / 'cls' / split / str(digit)).glob('*.png'))
        assert len(crops) == len(coco.getAnnIds(catIds=[digit + 1]))
        for crop in crops:
            assert read(crop).shape == (64, 64, 3)


def test_samples_match_their_category(coco):
    target = load_digits().target
    for ann in coco.loadAnns(coco.getAnnIds()):
        assert target[ann['digit_sample']] == ann['category_id'] - 1


def test_splits_share_no_digit_and_no_pixel_of_a_background(root):
    content = {
        split: json.loads((root / f'coco/annotations/instances_{names[0]}.json').read_text())
        for split, names in SPLITS.items()
    }
    samples = {split: {ann['digit_sample'] for ann in c['annotations']} for split, c in content.items()}
    assert samples['train'] and samples['val'] and not samples['train'] & samples['val']
    crops = {split: [crop for info in c['images'] for crop in info['crops']] for split, c in content.items()}
    shared = 0
    for one in crops['train']:
        for other in crops['val']:
            if one['picture'] != other['picture']:
                continue
            shared += 1
            left, top = np.maximum(one['box'][:2], other['box'][:2])
            right, bottom = np.minimum(one['box'][2:], other['box'][2:])
            assert left >= right or top >= bottom, 'two crops overlap'
    assert shared


def test_source_network_uses_no_target_images(root):
    from demo.pixels import PHOTOGRAPHS

    pictures = set()
    for names in SPLITS.values():
        content = json.loads((root / f'coco/annotations/instances_{names[0]}.json').read_text())
        pictures |= {crop['picture'] for info in content['images'] for crop in info['crops']}
    assert not pictures & set(PHOTOGRAPHS['source'])


def test_meta_contains_classes_seed_and_counts(root):
    meta = json.loads((root / 'meta.json').read_text())
    assert meta['things'] == [str(digit) for digit in DIGITS]
    assert len(meta['stuff']) == len(STUFF)
    assert len({tuple(colour) for colour in meta['palette']}) == 14
    assert meta['seed'] == 3 and meta['size'] == [192, 256]
    for split, names in SPLITS.items():
        annotations = json.loads((root / f'coco/annotations/instances_{names[0]}.json').read_text())['annotations']
        assert meta['counts'][split] == {'images': names[2], 'digits': len(annotations)}


def test_command_with_another_size_and_existing_data(tmp_path, capsys):
    argv = ['--out', str(tmp_path), '--images', '1', '--val-images', '1', '--size', '128', '160']
    main(argv)
    assert '1 pictures' in capsys.readouterr().out
    with Image.open(tmp_path / 'coco/val2017/000000000001.jpg') as image:
        assert image.size == (160, 128)
    with pytest.raises(SystemExit, match='already contains a demo data set'):
        main(argv)
    with pytest.raises(SystemExit, match='images=0'):
        main(['--out', str(tmp_path / 'empty'), '--images', '0'])
