"""ImageNet-A, ImageNet-R, and the classes of ImageNet that they have."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from mmpretrain.datasets import CustomDataset
from mmpretrain.datasets.categories import IMAGENET_CATEGORIES

from protuning_mm.data.errors import DataError
from protuning_mm.registry import DATASETS


@DATASETS.register_module()
class ImageNetSubset(CustomDataset):
    """Folders of some of ImageNet's classes, named by their WordNet ids (``n01498041/…``).

    With ``num_classes=1000`` labels are ImageNet's own, for a head that was trained on all of it;
    ``protuning_mm.SubsetAccuracy`` then compares the scores of the classes that are there alone. Otherwise the
    classes that are there count from 0, in ImageNet's order, for a head that is trained on them.

    Args:
        data_root (str): The folder with the classes' folders.
        num_classes (int): 1000, or how many classes there are. Defaults to 1000.
        classes_of (str, optional): Another folder with folders of classes: only classes that it has are taken, so
            that ``ImageNetSubset(data_root='data/imagenet/train', classes_of='data/imagenet-a', num_classes=200)``
            is what a head of ImageNet-A's classes is trained on. Defaults to None.
        **kwargs: Of mmpretrain's ``BaseDataset``.

    Raises:
        DataError: a folder is no class of ImageNet, or of the published part of it; or ``num_classes`` is another
            number.
    """

    published: str | None = None  # the data set's name in timm, which lists its classes

    def __init__(self, data_root: str, num_classes: int = 1000, classes_of: str | None = None, **kwargs: Any) -> None:
        self.wnids = _wnids(classes_of or data_root)
        self.subset = _imagenet_indices(self.wnids, classes_of or data_root)
        if self.published is not None:
            self._check_published(data_root)
        if num_classes not in (1000, len(self.subset)):
            raise DataError(
                f'{type(self).__name__}: num_classes={num_classes}, but there are {len(self.subset)} classes in '
                f'{classes_of or data_root!r}; 1000 for a head that knows all of ImageNet'
            )
        own = num_classes != 1000
        names = [IMAGENET_CATEGORIES[i] for i in self.subset] if own else IMAGENET_CATEGORIES
        self._label_of = {wnid: at if own else i for at, (wnid, i) in enumerate(zip(self.wnids, self.subset))}
        metainfo = dict(classes=tuple(names), subset=None if own else tuple(self.subset))
        super().__init__(data_root=data_root, metainfo=metainfo, **kwargs)

    def _check_published(self, data_root: str) -> None:
        expected = set(_listed(str(self.published)))
        lacking, foreign = sorted(expected - set(self.wnids)), sorted(set(self.wnids) - expected)
        if lacking or foreign:
            found = ((lacking, 'are missing'), (foreign, 'are of other classes'))
            named = [f'{len(wnids)} {what} ({wnids[0]}{", …" * (len(wnids) > 1)})' for wnids, what in found if wnids]
            raise DataError(
                f'{type(self).__name__}: {data_root!r} should have the {len(expected)} folders of {self.published}: '
                f'{" and ".join(named)}. Among other classes the right one is found more or less easily, so the '
                'result would be wrong'
            )

    def load_data_list(self) -> list[dict[str, Any]]:
        data_list = []
        for wnid in self.wnids:
            folder = Path(self.img_prefix, wnid)
            if not folder.is_dir():
                raise DataError(f'{type(self).__name__}: there is no folder {str(folder)!r}')
            images = sorted(str(path) for path in folder.iterdir() if self.is_valid_file(path.name))
            data_list += [dict(img_path=path, gt_label=self._label_of[wnid]) for path in images]
        return data_list


@DATASETS.register_module()
class ImageNetA(ImageNetSubset):
    """`ImageNet-A <https://arxiv.org/abs/1907.07174>`_ (Hendrycks et al., CVPR 2021), 7,500 photographs."""

    published = 'imagenet_a'


@DATASETS.register_module()
class ImageNetR(ImageNetSubset):
    """`ImageNet-R <https://arxiv.org/abs/2006.16241>`_ (Hendrycks et al., ICCV 2021), 30,000 renditions."""

    published = 'imagenet_r'


def _wnids(root: str) -> list[str]:
    return sorted(path.name for path in Path(root).iterdir() if path.is_dir() and not path.name.startswith('.'))


def _imagenet_indices(wnids: list[str], root: str) -> list[int]:
    """Look the names of folders up in ImageNet's ordered list."""
    index = {wnid: i for i, wnid in enumerate(_listed('imagenet'))}
    unknown = [wnid for wnid in wnids if wnid not in index]
    if unknown or not wnids:
        raise DataError(
            f'{root!r} should hold a folder for each class, named as n01498041; {len(wnids)} are there'
            + (f', and {unknown[0]!r} is no class of ImageNet' if unknown else '')
        )
    return [index[wnid] for wnid in wnids]


def _listed(name: str) -> list[str]:
    """The WordNet ids of ImageNet's classes, or of those of a published part, in ImageNet's order; timm has them."""
    try:
        return (files('timm.data') / f'_info/{name}_synsets.txt').read_text().split()
    except (ImportError, FileNotFoundError) as error:
        raise DataError(f"ImageNet's lists of classes come with timm, which does not have them ({error})") from None
