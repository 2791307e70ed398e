"""Data sets that only their host can read: what its class lists, against the disk."""

import copy
from pathlib import Path
from typing import Any

from mmengine.registry import DATASETS, TRANSFORMS

from protuning_mm.doctor.case import Case
from protuning_mm.doctor.classes import compare
from protuning_mm.doctor.findings import Finding, Findings, first_line
from protuning_mm.doctor.images import ABSENT, compare_size, examine_images, some
from protuning_mm.doctor.labels import examine_maps
from protuning_mm.doctor.problems import Kind, Problems

WRONG_LABEL = Kind('error', 'images have a label that is no class', 'num_classes of the head, or the annotations')


def examine_built(case: Case, key: str, dataset: dict[str, Any], max_images: int | None, said: set[str]) -> Findings:
    """Build a data set without its pipeline, and examine what it lists.

    Args:
        case (Case): With its model, if it could be built.
        key (str): The data set's key in the config.
        dataset (dict): Its config.
        max_images (int, optional): How many images are decoded at the most.
        said (set[str]): Heads whose number of classes was found to differ already.
    """
    cfg = copy.deepcopy(dict(dataset))
    pipeline, cfg['pipeline'] = cfg.get('pipeline') or [], []
    cfg.pop('filter_cfg', None)  # what is filtered out is examined too
    try:
        with DATASETS.switch_scope_and_registry(case.scope) as registry:
            built = registry.build(cfg)
        listed = [built.get_data_info(i) for i in range(len(built))]
    except Exception as error:
        yield Finding('error', key, f'the data set cannot be built: {first_line(error)}', 'mend its config or files')
        return
    classes = built.metainfo.get('classes')
    if case.model is not None and classes is not None:
        yield from compare(case, built.metainfo, key, said)
    problems = Problems(key)
    if not listed:
        yield Finding('error', key, 'the data set is empty', 'data_prefix, ann_file and suffixes of the files')
        return
    for i, info in enumerate(listed):
        label = info.get('gt_label')
        if isinstance(label, int) and classes is not None and not 0 <= label < len(classes):
            named = info.get('img_path', f'image {i}')
            problems.note(WRONG_LABEL, f'{named} (label {label}, {len(classes)} classes)')
    files = [info for info in listed if 'img_path' in info]
    if not files:  # CIFAR's images lie together in a few
        yield from problems.findings()
        yield Finding('info', key, f'{len(listed)} images, none of them a file of its own: none decoded')
        return
    chosen = some(files, max_images)
    sizes = examine_images([Path(info['img_path']) for info in chosen], problems)
    decoded = {info['img_path'] for info in chosen}
    for info in chosen:
        if Path(info['img_path']) in sizes and {'height', 'width'} <= set(info):  # of boxes
            compare_size(Path(info['img_path']), sizes[Path(info['img_path'])], info, problems)
    for info in files:
        if info['img_path'] not in decoded and not Path(info['img_path']).is_file():
            problems.note(ABSENT, info['img_path'])
    mapped = [info for info in chosen if info.get('seg_map_path')]
    if mapped:
        _examine_maps(case, mapped, pipeline, sizes, classes, problems)
    yield from problems.findings()
    maps = f', {len(mapped)} label maps' if mapped else ''
    yield Finding('info', key, f'{len(files)} images ({len(chosen)} decoded{maps})')


def _examine_maps(
    case: Case,
    mapped: list[dict[str, Any]],
    pipeline: list[dict[str, Any]],
    sizes: dict[Path, tuple[int, int]],
    classes: Any,
    problems: Problems,
) -> None:
    steps = [dict(step) for step in pipeline if str(step.get('type')).split('.')[-1] == 'LoadAnnotations']
    load: Any = None
    if steps:
        with TRANSFORMS.switch_scope_and_registry(case.scope) as registry:
            transform = registry.build(steps[0])

        def load(i: int, path: Path) -> Any:
            return transform(copy.deepcopy(mapped[i]))['gt_seg_map']

    heads: list[Any] = [getattr(case.model, name, None) for name in ('decode_head', 'auxiliary_head')]
    known = [head.num_classes for head in heads if isinstance(getattr(head, 'num_classes', None), int)]
    ignore_index = getattr(heads[0], 'ignore_index', 255)
    pairs = [(Path(info['img_path']), Path(info['seg_map_path'])) for info in mapped]
    number = min(known) if known else len(classes) if classes is not None else None
    examine_maps(pairs, sizes, number, problems, load, ignore_index if isinstance(ignore_index, int) else 255)
