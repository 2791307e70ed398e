"""Classification data sets that mmpretrain does not have, and subsets of any data set.

This package imports mmpretrain, so ``protuning_mm.data`` does not import it. The registry imports it when a scoped name
such as ``protuning_mm.LongTailed`` is looked up.
"""

from protuning_mm.data.classification.cifar_c import CIFAR10C, CIFAR100C
from protuning_mm.data.classification.clothing1m import Clothing1M
from protuning_mm.data.classification.corrupted import Corrupted
from protuning_mm.data.classification.few_shot import FewShot
from protuning_mm.data.classification.held_out import HeldOut
from protuning_mm.data.classification.image_arrays import ImageArrays
from protuning_mm.data.classification.imagenet_subset import ImageNetA, ImageNetR, ImageNetSubset
from protuning_mm.data.classification.long_tailed import LongTailed
from protuning_mm.data.classification.stanford_dogs import StanfordDogs
from protuning_mm.data.classification.subset import Subset

__all__ = [
    'CIFAR10C',
    'CIFAR100C',
    'Clothing1M',
    'Corrupted',
    'FewShot',
    'HeldOut',
    'ImageArrays',
    'ImageNetA',
    'ImageNetR',
    'ImageNetSubset',
    'LongTailed',
    'StanfordDogs',
    'Subset',
]
