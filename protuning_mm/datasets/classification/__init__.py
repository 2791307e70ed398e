"""Classification data sets that mmpretrain lacks, and parts of any. Imports mmpretrain: import it by the scoped names.

``protuning_mm.datasets`` does not import this package; the registry does, when a name such as
``protuning_mm.LongTailed`` is looked up.
"""

from protuning_mm.datasets.classification.cifar_c import CIFAR10C, CIFAR100C
from protuning_mm.datasets.classification.clothing1m import Clothing1M
from protuning_mm.datasets.classification.corrupted import Corrupted
from protuning_mm.datasets.classification.few_shot import FewShot
from protuning_mm.datasets.classification.held_out import HeldOut
from protuning_mm.datasets.classification.imagenet_subset import ImageNetA, ImageNetR, ImageNetSubset
from protuning_mm.datasets.classification.long_tailed import LongTailed
from protuning_mm.datasets.classification.part import Part
from protuning_mm.datasets.classification.stanford_dogs import StanfordDogs

__all__ = [
    'CIFAR10C',
    'CIFAR100C',
    'Clothing1M',
    'Corrupted',
    'FewShot',
    'HeldOut',
    'ImageNetA',
    'ImageNetR',
    'ImageNetSubset',
    'LongTailed',
    'Part',
    'StanfordDogs',
]
