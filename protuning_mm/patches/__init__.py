"""Every attribute of another library that protuning_mm replaces, and why.

:func:`install` runs when the package is imported. :func:`prepare_process` runs in the tools and in studies.

The docstring of each ``patch_…`` function says what is replaced, why, which upstream issue describes the cause, and
what is lost without the patch. To go without a patch, name it in ``PROTUNING_MM_SKIP_PATCHES``; separate several names
by commas: ``PROTUNING_MM_SKIP_PATCHES=patch_config_bases``.
"""

from functools import cache

from protuning_mm.patches.at_import import (
    patch_checkpoint_loading,
    patch_config_bases,
    patch_import_notes,
    patch_inferencers,
    patch_module_registration,
    patch_optimizer_constructors,
    patch_resuming,
)
from protuning_mm.patches.in_export import use_exportable_roi_heads, use_exportable_selection
from protuning_mm.patches.in_process import (
    patch_coco_metrics,
    patch_empty_data_sets,
    patch_file_writing,
    patch_image_loading,
    patch_label_loading,
    patch_transforms,
)
from protuning_mm.patches.in_replica import patch_ray_replicas

__all__ = [
    'install',
    'patch_coco_metrics',
    'patch_empty_data_sets',
    'patch_file_writing',
    'patch_ray_replicas',
    'patch_transforms',
    'prepare_process',
    'use_exportable_roi_heads',
    'use_exportable_selection',
]


@cache
def install() -> None:
    """Apply the patches that the package always needs; called when it is imported. Further calls do nothing.

    Raises:
        ValueError: ``PROTUNING_MM_SKIP_PATCHES`` contains a name that is not a patch.
    """
    patch_config_bases()
    patch_checkpoint_loading()
    patch_inferencers()
    patch_resuming()
    patch_optimizer_constructors()
    patch_module_registration()
    patch_import_notes()


def prepare_process(scope: str) -> None:
    """Apply the patches that training, testing and studies need, for the rest of the process.

    Errors in data then name their files, and files are written atomically.

    Args:
        scope (str): The config's default scope.

    Raises:
        ValueError: ``PROTUNING_MM_SKIP_PATCHES`` contains a name that is not a patch.
    """
    patch_file_writing()
    patch_empty_data_sets()
    patch_image_loading()
    patch_transforms()
    patch_label_loading(scope)
    patch_coco_metrics(scope)
