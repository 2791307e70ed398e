"""Writers of three data set formats: COCO with stuff maps, ADE20K's folders, and class folders."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from demo.scene import THINGS, UNLABELLED, Instance, Scene

_CROP = 64  # height and width of a classifier's image


class CocoWriter:
    """COCO's layout: images, instances as run-length masks, and stuff-thing maps as HTC reads them.

    ``categories`` are numbered from 1, as COCO's are. A map holds indices into ``THINGS + STUFF``; 255 is ignored.

    Args:
        root (Path): Folder to write into.
        split (str): ``train`` or ``val``; becomes ``train2017`` or ``val2017``.
    """

    def __init__(self, root: Path, split: str) -> None:
        self.images = root / f'{split}2017'
        self.maps = root / 'stuffthingmaps' / f'{split}2017'
        self.file = root / 'annotations' / f'instances_{split}2017.json'
        for folder in (self.images, self.maps, self.file.parent):
            folder.mkdir(parents=True, exist_ok=True)
        self.content: dict[str, Any] = {
            'images': [],
            'annotations': [],
            'categories': [{'id': i + 1, 'name': name, 'supercategory': 'digit'} for i, name in enumerate(THINGS)],
        }

    def add(self, index: int, scene: Scene) -> None:
        stem = f'{index + 1:012d}'
        _save(scene.image, self.images / f'{stem}.jpg')
        _save(scene.labels, self.maps / f'{stem}.png')
        height, width = scene.labels.shape
        # `crops` and `digit_sample` name the origin of the pixels; COCO's tools ignore them
        self.content['images'].append(
            {
                'id': index + 1,
                'file_name': f'{stem}.jpg',
                'height': height,
                'width': width,
                'crops': [{'picture': name, 'box': [round(side, 2) for side in box]} for name, box in scene.crops],
            }
        )
        for instance in scene.instances:
            number = len(self.content['annotations']) + 1
            self.content['annotations'].append(_annotation(number, index + 1, instance))

    def close(self) -> None:
        self.file.write_text(json.dumps(self.content))


class AdeWriter:
    """ADE20K's layout: label 0 means other, which ``reduce_zero_label=True`` ignores; classes start at 1.

    Args:
        root (Path): Folder to write into.
        split (str): ``train`` or ``val``; becomes ``training`` or ``validation``.
    """

    def __init__(self, root: Path, split: str) -> None:
        folder = {'train': 'training', 'val': 'validation'}[split]
        self.split = split
        self.images = root / 'images' / folder
        self.maps = root / 'annotations' / folder
        for path in (self.images, self.maps):
            path.mkdir(parents=True, exist_ok=True)

    def add(self, index: int, scene: Scene) -> None:
        stem = f'ADE_{self.split}_{index + 1:08d}'
        _save(scene.image, self.images / f'{stem}.jpg')
        labels = np.where(scene.labels == UNLABELLED, 0, scene.labels + 1)
        _save(labels.astype(np.uint8), self.maps / f'{stem}.png')

    def close(self) -> None:
        pass


class ClassFoldersWriter:
    """One folder per class, as mmpretrain's CustomDataset reads them: each digit with some of its surroundings.

    Args:
        root (Path): Folder to write into.
        split (str): ``train`` or ``val``.
    """

    def __init__(self, root: Path, split: str) -> None:
        self.root = root / split
        for name in THINGS:
            (self.root / name).mkdir(parents=True, exist_ok=True)

    def add(self, index: int, scene: Scene) -> None:
        picture = Image.fromarray(scene.image)
        for number, instance in enumerate(scene.instances):
            left, top, width, height = instance.box
            side = min(1.25 * max(width, height), *picture.size)
            x = min(max(0, left + width / 2 - side / 2), picture.width - side)
            y = min(max(0, top + height / 2 - side / 2), picture.height - side)
            crop = picture.resize((_CROP, _CROP), Image.Resampling.BICUBIC, box=(x, y, x + side, y + side))
            crop.save(self.root / THINGS[instance.label] / f'{index + 1:06d}_{number}.png')

    def close(self) -> None:
        pass


def _annotation(number: int, image: int, instance: Instance) -> dict[str, Any]:
    encoded = coco_mask.encode(np.asfortranarray(instance.mask.astype(np.uint8)))
    return {
        'id': number,
        'image_id': image,
        'category_id': instance.label + 1,
        'bbox': list(instance.box),
        'area': int(instance.mask.sum()),
        'iscrowd': 0,
        'segmentation': {'size': encoded['size'], 'counts': encoded['counts'].decode()},
        'digit_sample': instance.sample,
    }


def _save(pixels: NDArray[np.uint8], path: Path) -> None:
    Image.fromarray(pixels).save(path, quality=95)  # PNG ignores the quality
