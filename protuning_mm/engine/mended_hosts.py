"""What our tools mend in the hosts, for the rest of their process."""

from protuning_mm.data import (
    name_empty_data_sets,
    name_images_of_failed_transforms,
    name_undecodable_images,
    name_wrong_label_maps,
)
from protuning_mm.data.metrics.ground_truth import complete_coco_ground_truth


def mend_hosts(scope: str) -> None:
    """Let a host name the files that it fails on, and evaluate annotations that its evaluator would stumble over.

    Args:
        scope (str): The config's default scope.
    """
    name_empty_data_sets()
    name_undecodable_images()
    name_images_of_failed_transforms()
    name_wrong_label_maps(scope)
    complete_coco_ground_truth(scope)
