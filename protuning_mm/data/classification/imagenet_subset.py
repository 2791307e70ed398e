"""ImageNet-A, ImageNet-R, and other data sets of some of ImageNet's classes."""

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

    With ``num_classes=1000`` the labels are ImageNet's own, for a head that was trained on all of ImageNet;
    ``protuning_mm.SubsetAccuracy`` then compares only the scores of the existing classes. Otherwise the labels count
    the existing classes from 0, in ImageNet's order, for a head that is trained on them.

    Args:
        data_root (str): The folder with one folder per class.
        num_classes (int): 1000, or the number of existing classes. Defaults to 1000.
        classes_of (str, optional): Another folder with one folder per class; only these classes are used. For example,
            ``ImageNetSubset(data_root='data/imagenet/train', classes_of='data/imagenet-a', num_classes=200)`` trains a
            head for ImageNet-A's classes. Defaults to None: the classes of ``data_root``.
        **kwargs: Arguments of mmpretrain's ``BaseDataset``.

    Raises:
        DataError: a folder is no class of ImageNet, or of the published data set; or ``num_classes`` is another number.
    """

    published: str | None = None  # the data set's name in timm, which has the list of its classes

    def __init__(self, data_root: str, num_classes: int = 1000, classes_of: str | None = None, **kwargs: Any) -> None:
        folder = classes_of or data_root
        self.wnids = sorted(path.name for path in Path(folder).iterdir() if path.is_dir() and path.name[0] != '.')
        self.subset = _imagenet_indices(self.wnids, folder)
        if self.published is not None:
            self._check_published(data_root)
        if num_classes not in (1000, len(self.subset)):
            raise DataError(
                f'{type(self).__name__}: num_classes={num_classes}, but there are {len(self.subset)} classes in '
                f'{folder!r}; use 1000 for a head for all of ImageNet'
            )
        own = num_classes != 1000
        names = [IMAGENET_CATEGORIES[i] for i in self.subset] if own else IMAGENET_CATEGORIES
        self._label_of = {wnid: at if own else i for at, (wnid, i) in enumerate(zip(self.wnids, self.subset))}
        metainfo = dict(classes=tuple(names), subset=None if own else tuple(self.subset))
        super().__init__(data_root=data_root, metainfo=metainfo, **kwargs)

    def _check_published(self, data_root: str) -> None:
        expected = set(_read_wnids(str(self.published)))
        lacking, foreign = sorted(expected - set(self.wnids)), sorted(set(self.wnids) - expected)
        if lacking or foreign:
            found = ((lacking, 'are missing'), (foreign, 'are of other classes'))
            named = [f'{len(wnids)} {what} ({wnids[0]}{", …" * (len(wnids) > 1)})' for wnids, what in found if wnids]
            raise DataError(
                f'{type(self).__name__}: {data_root!r} should have the {len(expected)} folders of {self.published}: '
                f'{" and ".join(named)}. With other classes the task is easier or harder, so the result would '
                'not be comparable'
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


def _imagenet_indices(wnids: list[str], root: str) -> list[int]:
    """Find the label of each folder in ImageNet's ordered list of classes."""
    index = {wnid: i for i, wnid in enumerate(_read_wnids('imagenet'))}
    unknown = [wnid for wnid in wnids if wnid not in index]
    if unknown or not wnids:
        raise DataError(
            f'{root!r} should contain one folder per class, named like n01498041; it contains {len(wnids)}'
            + (f', and {unknown[0]!r} is no class of ImageNet' if unknown else '')
        )
    return [index[wnid] for wnid in wnids]


def _read_wnids(name: str) -> list[str]:
    """Read the WordNet ids of ImageNet or of a data set with some of its classes from timm, in ImageNet's order."""
    try:
        return (files('timm.data') / f'_info/{name}_synsets.txt').read_text().split()
    except (ImportError, FileNotFoundError) as error:
        raise DataError(f"the lists of ImageNet's classes come with timm, but they are missing ({error})") from None
