"""What can be wrong with a data set, said before hours are spent on it; and, by scoped names, what mmpretrain lacks."""

from protuning_mm.data.empty_data_sets import name_empty_data_sets
from protuning_mm.data.errors import DataError
from protuning_mm.data.failed_transforms import name_images_of_failed_transforms
from protuning_mm.data.files import check_data_files
from protuning_mm.data.images import name_undecodable_images
from protuning_mm.data.label_maps import name_wrong_label_maps

__all__ = [
    'DataError',
    'check_data_files',
    'name_empty_data_sets',
    'name_images_of_failed_transforms',
    'name_undecodable_images',
    'name_wrong_label_maps',
]
