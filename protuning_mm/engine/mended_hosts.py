"""Fixes that the command line tools apply to the host libraries in their process."""

from protuning_mm.data import (
    name_empty_data_sets,
    name_images_of_failed_transforms,
    name_undecodable_images,
    name_wrong_label_maps,
)
from protuning_mm.data.metrics.ground_truth import complete_coco_ground_truth


def mend_hosts(scope: str) -> None:
    """Make a host name the files on which it fails, and complete annotations that its evaluator cannot handle.

    Args:
        scope (str): Default scope of the config.
    """
    name_empty_data_sets()
    name_undecodable_images()
    name_images_of_failed_transforms()
    name_wrong_label_maps(scope)
    complete_coco_ground_truth(scope)
