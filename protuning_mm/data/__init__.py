"""What can be wrong with a data set, said before hours are spent on it; and, by scoped names, what mmpretrain lacks."""

from protuning_mm.data.empty_data_sets import patch_empty_data_sets
from protuning_mm.data.errors import DataError
from protuning_mm.data.failed_transforms import patch_transforms
from protuning_mm.data.files import check_data_files
from protuning_mm.data.images import patch_image_loading
from protuning_mm.data.label_maps import patch_label_loading

__all__ = [
    'DataError',
    'check_data_files',
    'patch_empty_data_sets',
    'patch_image_loading',
    'patch_label_loading',
    'patch_transforms',
]
