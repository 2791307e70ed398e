"""Checks data sets in formats that only the host's data set class can read."""

import copy
from pathlib import Path
from typing import Any

from mmengine.registry import DATASETS, TRANSFORMS

from protuning_mm.doctor.classes import check_heads
from protuning_mm.doctor.fault_counts import FaultCounts, FaultKind
from protuning_mm.doctor.findings import Finding, Findings, describe_error
from protuning_mm.doctor.images import Sizes, check_images, pick_evenly
from protuning_mm.doctor.label_maps import check_label_maps
from protuning_mm.doctor.training_setup import TrainingSetup, build_in_scope

WRONG_LABEL = FaultKind(
    'error', 'images have a label that is not a class', 'num_classes of the head, or the annotations'
)


def check_host_dataset(
    setup: TrainingSetup, key: str, dataset: dict[str, Any], max_images: int | None, reported: set[str]
) -> Findings:
    """Build a data set without its pipeline, and check its images, labels and label maps.

    Args:
        setup (TrainingSetup): The config, with its model if it could be built.
        key (str): Config key of the data set.
        dataset (dict): Config of the data set.
        max_images (int, optional): Number of images to decode. Defaults to all.
        reported (set[str]): Config keys of heads whose number of classes was already reported.
    """
    cfg = dict(dataset, pipeline=[])
    cfg.pop('filter_cfg', None)  # to check the images that training filters out, too
    try:
        built = build_in_scope(DATASETS, cfg, setup.scope)
        infos = [built.get_data_info(i) for i in range(len(built))]
    except Exception as error:
        found = f'the data set cannot be built: {describe_error(error)}'
        yield Finding('error', key, found, 'correct its config or files')
        return
    classes = built.metainfo.get('classes')
    if setup.model is not None and classes is not None:
        yield from check_heads(setup, built.metainfo, key, reported)
    faults = FaultCounts(key)
    if not infos:
        yield Finding('error', key, 'the data set is empty', 'data_prefix, ann_file and suffixes of the files')
        return
    for i, info in enumerate(infos):
        label = info.get('gt_label')
        if isinstance(label, int) and classes is not None and not 0 <= label < len(classes):
            name = info.get('img_path', f'image {i}')
            faults.add(WRONG_LABEL, f'{name} (label {label}, {len(classes)} classes)')
    files = [(Path(info['img_path']), info) for info in infos if 'img_path' in info]
    if not files:  # such as CIFAR, with all images in a few files
        yield from faults.findings()
        yield Finding('info', key, f'{len(infos)} images without files of their own: none decoded')
        return
    chosen = pick_evenly(files, max_images)
    sizes = check_images(files, chosen, faults)
    with_map = [info for _, info in chosen if info.get('seg_map_path')]
    if with_map:
        _check_maps(setup, with_map, dataset.get('pipeline') or [], sizes, classes, faults)
    yield from faults.findings()
    maps = f', {len(with_map)} label maps' if with_map else ''
    yield Finding('info', key, f'{len(files)} images ({len(chosen)} decoded{maps})')


def _check_maps(
    setup: TrainingSetup, infos: list[dict[str, Any]], pipeline: Any, sizes: Sizes, classes: Any, faults: FaultCounts
) -> None:
    transforms = [dict(each) for each in pipeline if str(each.get('type')).split('.')[-1] == 'LoadAnnotations']
    load: Any = None
    if transforms:
        transform = build_in_scope(TRANSFORMS, transforms[0], setup.scope)

        def load(i: int, path: Path) -> Any:
            return transform(copy.deepcopy(infos[i]))['gt_seg_map']

    heads: list[Any] = [getattr(setup.model, name, None) for name in ('decode_head', 'auxiliary_head')]
    known = [head.num_classes for head in heads if isinstance(getattr(head, 'num_classes', None), int)]
    ignore_index = getattr(heads[0], 'ignore_index', 255)
    pairs = [(Path(info['img_path']), Path(info['seg_map_path'])) for info in infos]
    number = min(known) if known else len(classes) if classes is not None else None
    check_label_maps(pairs, sizes, number, faults, load, ignore_index if isinstance(ignore_index, int) else 255)
