"""Data sets of boxes in the formats of other tools, converted to COCO's layout."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pycocotools.coco import COCO

from protuning_mm.conversion import convert_data
from protuning_mm.data.data_folder import read_data_folder
from protuning_mm.data.errors import DataError
from tests.mini import REPO

SHARED = REPO.parent / 'shared/data'
SIZE = (200, 100)  # width and height


def image(path: Path, size: tuple[int, int] = SIZE, orientation: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.new('RGB', size).save(path, exif=exif)
    return path


def text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def converted(source: Path, out: Path, **options: Any) -> tuple[dict[str, dict[str, Any]], str]:
    """Convert, and return the content of each split's file by image, and the findings."""
    folder, findings = convert_data(source, out, **options)
    assert folder == read_data_folder(out)
    found = {}
    for split in folder.splits:
        coco = COCO(folder.annotations(split))  # its own reader
        names = {each['id']: each['name'] for each in coco.dataset['categories']}
        assert tuple(names.values()) == folder.classes
        found[split] = {
            each['file_name']: [
                (names[ann['category_id']], ann['bbox'], ann['iscrowd']) for ann in coco.imgToAnns[each['id']]
            ]
            for each in coco.dataset['images']
        }
        for name in found[split]:
            assert (Path(folder.images(split)) / name).is_file()
    return found, '\n'.join(findings)


def yolo(root: Path, lines: dict[str, str], names: str = 'names: [cat, dog]', **sizes: Any) -> Path:
    for name, content in lines.items():
        image(root / f'images/{name}.jpg')
        text(root / f'labels/{name}.txt', content)
    text(root / 'data.yaml', f'path: .\ntrain: images/train\nval: images/val\nnc: 2\n{names}\n')
    return root


def test_yolo(tmp_path: Path) -> None:
    root = yolo(
        tmp_path / 'yolo',
        {'train/a': '1 0.5 0.5 0.1 0.2\n0 0.25 0.5 0.5 1\n', 'train/b': '', 'val/c': '0 0.5 0.5 0.5 0.5'},
    )
    found, findings = converted(root, tmp_path / 'out')
    assert found == {
        'train': {
            'images/train/a.jpg': [('dog', [90, 40, 20, 20], 0), ('cat', [0, 0, 100, 100], 0)],
            'images/train/b.jpg': [],
        },
        'val': {'images/val/c.jpg': [('cat', [50, 25, 100, 50], 0)]},
    }
    assert findings == '1 images without an object: kept (b.jpg)'


def test_odd_lines_of_yolo(tmp_path: Path) -> None:
    lines = (
        '7 0.5 0.5 0.1 0.1\n0 0.5 0.5\n0 0.5 0.5 0 0.3\n0 0.95 0.5 0.2 0.2\n0 1.5 0.5 0.2 0.2\n1 0.5 0.5 0.2 0.2\n' * 2
    )
    root = yolo(tmp_path / 'yolo', {'train/a': lines, 'val/b': '0 0.5 0.5 0.5 0.5'}, 'names: {0: cat, 1: dog, 2: cow}')
    text(root / 'labels/train/none.txt', '')
    found, findings = converted(root, tmp_path / 'out')
    assert found['train'] == {'images/train/a.jpg': [('cat', [170, 40, 30, 20], 0), ('dog', [80, 40, 40, 20], 0)]}
    assert findings.splitlines() == [
        '1 nc=2, but 3 names: the names count (data.yaml)',
        '2 lines of unknown classes (class 7, but there are 3): left out (a.txt, line 1, a.txt, line 7)',
        '2 lines that cannot be read: left out (a.txt, line 2, a.txt, line 8)',
        '2 boxes of at most one pixel in width or height: left out (a.jpg)',
        '2 boxes that reach beyond their image: clipped (a.jpg)',
        '2 boxes outside of their image: left out (a.jpg)',
        '2 boxes that are given twice: kept once (a.jpg)',
    ]


def test_polygons_of_yolo_become_masks(tmp_path: Path) -> None:
    triangle = '0 0.1 0.1 0.6 0.1 0.1 0.9'
    root = yolo(tmp_path / 'yolo', {'train/a': f'{triangle}\n1 0.5 0.5 0.1 0.2', 'val/b': triangle})
    _, findings = converted(root, tmp_path / 'out')
    assert read_data_folder(tmp_path / 'out').masks
    assert '1 objects without a mask: their box is their mask (a.jpg)' in findings
    coco = COCO(tmp_path / 'out/train.json')
    first, second = coco.loadAnns(coco.getAnnIds())
    # (20, 10), (120, 10), (20, 90): half of 100 × 80, and its border
    assert first['area'] == pytest.approx(4000, rel=0.04) and coco.annToMask(first).sum() == first['area']
    assert first['bbox'] == pytest.approx([20, 10, 100, 80])
    assert coco.annToMask(second).sum() == 20 * 20 == second['area']


def test_yaml_of_roboflow(tmp_path: Path) -> None:
    """It counts from a folder that users do not have."""
    for split in ('train', 'valid'):
        image(tmp_path / f'robo/{split}/images/{split}.jpg')
        text(tmp_path / f'robo/{split}/labels/{split}.txt', '0 0.5 0.5 0.5 0.5')
    text(tmp_path / 'robo/data.yaml', "train: ../train/images\nval: ../valid/images\nnc: 1\nnames: ['cat']")
    found, findings = converted(tmp_path / 'robo', tmp_path / 'out')
    assert {split: list(each) for split, each in found.items()} == {
        'train': ['train/images/train.jpg'],
        'val': ['valid/images/valid.jpg'],
    }
    assert not findings


def voc_object(name: str, *box: int, difficult: int = 0) -> str:
    sides = ''.join(f'<{key}>{side}</{key}>' for key, side in zip(('xmin', 'ymin', 'xmax', 'ymax'), box))
    return f'<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{sides}</bndbox></object>'


def test_voc(tmp_path: Path) -> None:
    """Pixels of Pascal VOC count from 1, and its right and bottom ones are inside."""
    root = tmp_path / 'voc'
    objects = {
        'a': voc_object('dog', 1, 1, 200, 100) + voc_object('cat', 11, 21, 30, 60, difficult=1),
        'b': voc_object('dog', 5, 5, 5, 5),
        'c': voc_object('cat', 1, 1, 10, 10),
        'd': voc_object('cat', 1, 1, 10, 10),
        'lost': '',
    }
    for name, content in objects.items():
        text(root / f'Annotations/{name}.xml', f'<annotation><filename>{name}.jpg</filename>{content}</annotation>')
        if name != 'lost':
            image(root / f'JPEGImages/{name}.jpg')
    text(root / 'ImageSets/Main/train.txt', 'a\nb\n')
    text(root / 'ImageSets/Main/val.txt', 'c\n')
    found, findings = converted(root, tmp_path / 'out')
    assert found == {
        'train': {
            'JPEGImages/a.jpg': [('dog', [0, 0, 200, 100], 0), ('cat', [10, 20, 20, 40], 1)],
            'JPEGImages/b.jpg': [],
        },
        'val': {'JPEGImages/c.jpg': [('cat', [0, 0, 10, 10], 0)]},
    }
    assert findings.splitlines() == [
        '1 difficult objects: ignored in training and evaluation (a.xml)',
        '1 images in none of the lists of ImageSets: left out (d.jpg)',
        '1 annotation files without an image: left out (lost.xml)',
        '1 boxes of at most one pixel in width or height: left out (b.jpg)',
    ]


def test_voc_lists_of_images_with_one_name(tmp_path: Path) -> None:
    for folder in ('day', 'night', 'rain'):
        text(tmp_path / f'voc/{folder}/1.xml', f'<annotation>{voc_object("cat", 1, 1, 10, 10)}</annotation>')
        image(tmp_path / f'voc/{folder}/1.jpg')
    text(tmp_path / 'voc/ImageSets/Main/train.txt', 'day/1\n./rain/1.jpg\n')
    text(tmp_path / 'voc/ImageSets/Main/val.txt', 'night/1\nrain/1\n')
    found, _ = converted(tmp_path / 'voc', tmp_path / 'out')
    assert {split: list(images) for split, images in found.items()} == {
        'train': ['day/1.jpg'],
        'val': ['night/1.jpg', 'rain/1.jpg'],
    }


def test_labelme(tmp_path: Path) -> None:
    root = tmp_path / 'labelme'
    shapes = [
        dict(label='cat', shape_type='rectangle', points=[[60, 70], [10, 20]]),
        dict(label='dog', shape_type='polygon', points=[[100, 10], [150, 10], [150, 60], [100, 60]]),
        dict(label='dog', shape_type='circle', points=[[1, 1], [5, 5]]),
    ]
    for name in 'abcde':
        image(root / f'{name}.png')
        text(
            root / f'{name}.json',
            json.dumps(dict(imagePath=f'..\\photos\\{name}.png', imageWidth=1, imageHeight=1, shapes=shapes)),
        )
    found, findings = converted(root, tmp_path / 'out', val=0.4, seed=3)
    assert sorted([*found['train'], *found['val']]) == [f'{name}.png' for name in 'abcde']
    assert len(found['val']) == 2
    for objects in (found['train'] | found['val']).values():
        assert objects == [('cat', [10, 20, 50, 50], 0), ('dog', [100, 10, 50, 50], 0)]
    assert read_data_folder(tmp_path / 'out').masks
    assert (
        "'circle'" in findings and '2 of 5 training images: drawn as val, because there was none (seed 3)' in findings
    )
    again, _ = converted(root, tmp_path / 'again', val=0.4, seed=3)
    other, _ = converted(root, tmp_path / 'other', val=0.4, seed=4)
    assert again == found != other


def test_coco_with_other_names(tmp_path: Path) -> None:
    root = tmp_path / 'mine'
    for name in ('a.jpg', 'b.jpg', 'deep/c.jpg'):
        image(root / 'photos' / name)
    box = dict(category_id=17, iscrowd=0, area=1)
    content = dict(
        images=[
            dict(id=1, file_name='a.jpg', width=200, height=100),
            dict(id=2, file_name='photos/b.jpg', width=100, height=200),
            dict(id=2, file_name='deep/c.jpg', width=200, height=100),
            dict(id=3, file_name='lost.jpg', width=200, height=100),
        ],
        annotations=[
            dict(id=1, image_id=1, bbox=[10, 10, 20, 20], **box),
            dict(id=1, image_id=1, bbox=[10, 50, 20, 20], **box | dict(category_id=3, iscrowd=1)),
            dict(id=2, image_id=1, bbox=[50, 50, 20, 20], **box | dict(category_id=5)),
            dict(id=3, image_id=9, bbox=[10, 10, 20, 20], **box),
            dict(id=4, image_id=2, bbox=[10, 10, -20, 20], **box),
            dict(id=5, image_id=2, bbox=None, **box),
        ],
        categories=[dict(id=17, name='dog'), dict(id=3, name='cat')],
    )
    text(root / 'my_training_boxes.json', json.dumps(content))
    text(root / 'captions.json', json.dumps(dict(images=[], annotations=[dict(caption='a cat')], categories=[])))
    text(
        root / 'validation.json',
        json.dumps(content | dict(images=[dict(id=1, file_name='c.jpg', width=200, height=100)])),
    )
    found, findings = converted(root, tmp_path / 'out')
    assert found['train'] == {
        'photos/a.jpg': [('dog', [10, 10, 20, 20], 0), ('cat', [10, 50, 20, 20], 1)],
        'photos/b.jpg': [('dog', [0, 10, 10, 20], 0)],
    }
    assert list(found['val']) == ['photos/deep/c.jpg']
    both = 'my_training_boxes.json: annotation {0}, validation.json: annotation {0}'
    for line in (
        '1 images with the id of another: left out (my_training_boxes.json: id 2)',
        '1 images that are listed, but not found: left out (lost.jpg)',
        '1 images of another size than written: the size of the file is taken (photos/b.jpg: 100×200, but is 200×100)',
        f'2 annotations of unknown categories: left out ({both.format(2)})',
        f'2 annotations with the id of another: numbered anew ({both.format(1)})',
        '1 annotations without a box of four numbers: left out (my_training_boxes.json: annotation 5)',
        '1 boxes with left and right, or top and bottom, exchanged: put in order (b.jpg)',
    ):
        assert line in findings.splitlines()


def test_two_coco_files_for_a_split(tmp_path: Path) -> None:
    image(tmp_path / 'mine/a.jpg')
    content = dict(
        images=[dict(id=1, file_name='a.jpg', width=200, height=100)],
        annotations=[dict(id=1, image_id=1, category_id=1, bbox=[1, 1, 50, 50])],
        categories=[dict(id=1, name='cat')],
    )
    for name in ('first.json', 'second.json'):
        text(tmp_path / 'mine' / name, json.dumps(content))
    with pytest.raises(DataError, match='first.json and .*second.json are both of the split train'):
        convert_data(tmp_path / 'mine', tmp_path / 'out')
    assert not (tmp_path / 'out').exists() and not (tmp_path / 'out.partial').exists()
    found, _ = converted(tmp_path / 'mine/first.json', tmp_path / 'out')
    assert found == {'train': {'a.jpg': [('cat', [1, 1, 50, 50], 0)]}}


@pytest.mark.parametrize(
    ('table', 'note'),
    [
        ('filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,200,100,cat,20,10,120,60\nb.jpg,200,100,,,,,\n', ''),
        ('a.jpg,20,10,120,60,cat\nb.jpg,,,,,\n', ''),
        ('ImageID,LabelName,XMin,XMax,YMin,YMax\na,cat,0.1,0.6,0.1,0.6\nb,,,,,\n', 'fractions'),
        (
            'image,label,x1,y1,x2,y2,split\na.jpg,cat,20,10,120,60,train\nb.jpg,,,,,,train\nno.jpg,cat,1,1,9,9,train\n',
            'no.jpg',
        ),
    ],
    ids=['tensorflow', 'retinanet', 'open_images', 'with_splits'],
)
def test_tables(tmp_path: Path, table: str, note: str) -> None:
    for name in 'ab':
        image(tmp_path / f'mine/pictures/{name}.jpg')
    text(tmp_path / 'mine/boxes.csv', table)
    found, findings = converted(tmp_path / 'mine', tmp_path / 'out', val=0)
    objects = [('cat', pytest.approx([20, 10, 100, 50], abs=1e-3), 0)]
    assert found == {'train': {'pictures/a.jpg': objects, 'pictures/b.jpg': []}}
    assert note in findings


def test_image_on_its_side(tmp_path: Path) -> None:
    """The hosts turn images as their EXIF orientation says, and so do the annotations of most tools."""
    root = yolo(tmp_path / 'yolo', {'train/a': '0 0.5 0.5 0.5 0.5', 'val/b': ''})
    image(root / 'images/train/a.jpg', orientation=6)
    found, findings = converted(root, tmp_path / 'out')
    assert found['train'] == {'images/train/a.jpg': [('cat', [25, 50, 50, 100], 0)]}
    assert '1 images that are stored on their side' in findings


def test_damaged_image(tmp_path: Path) -> None:
    root = yolo(tmp_path / 'yolo', {'train/a': '0 0.5 0.5 0.5 0.5', 'train/b': '', 'val/c': ''})
    (root / 'images/train/b.jpg').write_bytes(b'')
    found, findings = converted(root, tmp_path / 'out')
    assert list(found['train']) == ['images/train/a.jpg']
    assert '1 images that cannot be read: left out (b.jpg)' in findings


def test_chosen_classes(tmp_path: Path) -> None:
    root = yolo(tmp_path / 'yolo', {'train/a': '1 0.5 0.5 0.5 0.5\n0 0.5 0.5 0.5 0.5', 'val/b': ''})
    found, findings = converted(root, tmp_path / 'out', classes=['dog'])
    assert found['train'] == {'images/train/a.jpg': [('dog', [50, 25, 100, 50], 0)]}
    assert '1 objects of other classes: left out (cat)' in findings
    with pytest.raises(DataError, match='no object of the classes horse can be trained on'):
        convert_data(root, tmp_path / 'out', classes=['horse'])
    assert read_data_folder(tmp_path / 'out').classes == ('dog',)  # a failed conversion replaces nothing


def test_what_cannot_be_converted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no_such' does not exist"):
        convert_data(tmp_path / 'no_such', tmp_path / 'out')
    text(tmp_path / 'notes/readme.md', 'hello')
    with pytest.raises(DataError, match='no format is recognized; found readme.md. Known are: YOLO'):
        convert_data(tmp_path / 'notes', tmp_path / 'out')
    root = yolo(tmp_path / 'yolo', {'train/a': '0 0.5 0.5 0.5 0.5', 'val/b': ''})
    with pytest.raises(DataError, match="notes' exists and was not written by a conversion"):
        convert_data(root, tmp_path / 'notes')
    assert (tmp_path / 'notes/readme.md').read_text() == 'hello'
    with pytest.raises(DataError, match='no Pascal|no training images'):
        convert_data(root, tmp_path / 'out', kind='voc')


def test_source_in_the_folder_to_write_is_kept(tmp_path: Path) -> None:
    root = yolo(tmp_path / 'mine/photos', {'train/a': '0 0.5 0.5 0.5 0.5', 'val/b': ''})
    (tmp_path / 'mine/dataset.json').write_text('{}')
    with pytest.raises(DataError, match='lies in .*mine., which the conversion writes'):
        convert_data(root, tmp_path / 'mine')
    assert (root / 'data.yaml').is_file()


def test_folder_to_write_in_the_source(tmp_path: Path) -> None:
    """A second conversion reads the source, not what the first one wrote there; other files stay."""
    root = tmp_path / 'voc'
    for name in 'ab':
        image(root / f'{name}.jpg')
        text(root / f'{name}.xml', f'<annotation>{voc_object("dog", 1, 1, 50, 50)}</annotation>')
    converted(root, root / 'out', val=0.5)
    text(root / 'out/notes.txt', 'keep')
    for name in 'ab':
        text(root / f'{name}.xml', f'<annotation>{voc_object("cat", 1, 1, 50, 50)}</annotation>')
    found, _ = converted(root, root / 'out', val=0.5)
    assert read_data_folder(root / 'out').classes == ('cat',) and len(found['train']) == 1
    assert (root / 'out/notes.txt').read_text() == 'keep'


@pytest.mark.parametrize(
    ('names', 'classes'),
    [
        ('names: {1: dog, 0: cat}', ('cat', 'dog')),
        ("names: {'1': dog, '0': cat}", ('cat', 'dog')),
        ('names: {1: cat, 2: dog}', None),
        ('names:', None),
    ],
)
def test_names_of_yolo(tmp_path: Path, names: str, classes: tuple[str, ...] | None) -> None:
    root = yolo(tmp_path / 'yolo', {'train/a': '1 0.5 0.5 0.5 0.5', 'val/b': ''}, names)
    if classes is None:
        with pytest.raises(DataError, match='must be a list of names, or number them 0, 1, 2, … without a gap'):
            convert_data(root, tmp_path / 'out', kind='yolo')
    else:
        found, _ = converted(root, tmp_path / 'out')
        assert found['train']['images/train/a.jpg'][0][0] == 'dog'
        assert read_data_folder(tmp_path / 'out').classes == classes


def test_key_points_of_yolo_are_no_polygons(tmp_path: Path) -> None:
    line = '0 0.5 0.5 0.5 0.5 0.1 0.1 2 0.9 0.9 2'
    root = yolo(tmp_path / 'yolo', {'train/a': line, 'val/b': ''}, 'kpt_shape: [2, 3]\nnames: [cat, dog]')
    found, _ = converted(root, tmp_path / 'out')
    assert found['train'] == {'images/train/a.jpg': [('cat', [50, 25, 100, 50], 0)]}
    assert not read_data_folder(tmp_path / 'out').masks


def test_image_of_another_split_is_not_taken(tmp_path: Path) -> None:
    """Names that are numbered anew in each split."""
    for split, name in (('train', '1.jpg'), ('train', '2.jpg'), ('val', '2.jpg')):
        image(tmp_path / f'mine/{split}/{name}')
    content = dict(
        images=[dict(id=i, file_name=f'{i}.jpg', width=200, height=100) for i in (1, 2)],
        annotations=[dict(id=i, image_id=i, category_id=1, bbox=[1, 1, 50, 50]) for i in (1, 2)],
        categories=[dict(id=1, name='cat')],
    )
    for split in ('train', 'val'):
        text(tmp_path / f'mine/annotations/{split}.json', json.dumps(content))
    found, findings = converted(tmp_path / 'mine', tmp_path / 'out')
    assert {split: list(images) for split, images in found.items()} == {
        'train': ['train/1.jpg', 'train/2.jpg'],
        'val': ['val/2.jpg'],
    }
    assert '1 images that are listed, but not found: left out (1.jpg)' in findings
    alone, _ = converted(tmp_path / 'mine/annotations/train.json', tmp_path / 'alone', val=0)
    assert list(alone['train']) == ['train/1.jpg', 'train/2.jpg']


def test_files_of_one_format_beside_those_of_another(tmp_path: Path) -> None:
    image(tmp_path / 'mine/a.jpg')
    text(tmp_path / 'mine/boxes.csv', 'a.jpg,20,10,120,60,cat\n')
    text(tmp_path / 'mine/notes.json', 'no JSON')
    for source in ('mine', 'mine/boxes.csv'):
        found, _ = converted(tmp_path / source, tmp_path / 'out', val=0)
        assert found == {'train': {'a.jpg': [('cat', [20, 10, 100, 50], 0)]}}


@pytest.mark.skipif(not (SHARED / 'bccd').is_dir(), reason='needs the data set BCCD')
def test_bccd(tmp_path: Path) -> None:
    found, findings = converted(SHARED / 'bccd', tmp_path / 'out')
    assert {split: len(images) for split, images in found.items()} == dict(train=205, val=87, test=72)
    names = [name for images in found.values() for objects in images.values() for name, _, _ in objects]
    # as published, without the two boxes that have no area
    assert (names.count('RBC'), names.count('WBC'), names.count('Platelets')) == (4155 - 2, 372, 361)
    assert findings.startswith('2 boxes of at most one pixel in width or height: left out')
