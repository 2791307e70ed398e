"""The classes that a data set's config names, looked up without building it."""

from inspect import signature
from pathlib import Path
from typing import Any

from mmengine.fileio import list_from_file
from mmengine.registry import DATASETS


def dataset_classes(dataset: dict[str, Any], scope: str) -> Any:
    """Look up the classes that a data set's config gives it: its ``metainfo``'s, or its class's; None without any."""
    classes = _written_classes(dataset)[1]
    if isinstance(classes, str):  # the path of a list; the host reads it so
        return list_from_file(classes) if Path(classes).is_file() else None
    if classes is None:
        kind = dataset_class(dataset, scope)
        classes = (getattr(kind, 'METAINFO', None) or {}).get('classes')
    return classes


def wrong_labels(key: str, dataset: dict[str, Any], scope: str) -> tuple[str, str, str] | None:
    """Say what is wrong with the classes or labels that a data set's config names; None where nothing is.

    Args:
        key (str): The data set's key in the config.
        dataset (dict): Its config.
        scope (str): The config's default scope.

    Returns:
        tuple, optional: The config's key, what was found, and what would be right.
    """
    return _one_name_for_all(key, dataset) or _two_zero_labels(key, dataset, scope)


def _one_name_for_all(key: str, dataset: dict[str, Any]) -> tuple[str, str, str] | None:
    """One class without its comma, ``('cat')``: the hosts would take its letters for names."""
    name, classes = _written_classes(dataset)
    if not isinstance(classes, str) or '://' in classes or Path(classes).is_file():
        return None
    return (
        f'{key}.{name}',
        f"{classes!r} is a string, and no file of names: the data set's classes must be a tuple or a list",
        f'Write classes=({classes!r},) for one class: without the comma the parentheses make no tuple.',
    )


def _written_classes(dataset: dict[str, Any]) -> tuple[str, Any]:
    """Return the key and value of the classes that a data set's config names itself."""
    if dataset.get('classes') is not None:
        return 'classes', dataset['classes']
    return 'metainfo.classes', (dataset.get('metainfo') or {}).get('classes')


def dataset_class(dataset: dict[str, Any], scope: str) -> Any:
    """Look up a data set's class in its host's registry; None where there is no such class."""
    kind = dataset.get('type')
    return DATASETS.get(kind if '.' in kind else f'{scope}.{kind}') if isinstance(kind, str) else kind


def unknown_categories(classes: Any, content: dict[str, Any], path: Path) -> tuple[str, str] | None:
    """Say which classes are no categories of a COCO-like annotation file, and what to write instead.

    Args:
        classes (Sequence[str]): The data set's.
        content (dict): What is in the file.
        path (Path): Where the file is.
    """
    there = [category.get('name') for category in content['categories']]
    unknown = [name for name in classes if name not in there]
    if not unknown:
        return None
    return (
        f'{len(unknown)} of its {len(classes)} classes are no categories of {str(path)!r}: {_shortened(unknown)}. '
        f'The file has {len(there)}: {_shortened(there)}',
        f'Write metainfo=dict(classes=({", ".join(repr(name) for name in there[:3])}, …)) in the data set, with the '
        'names as the file has them, and num_classes in the heads to match.',
    )


def _shortened(names: list[Any]) -> str:
    return ', '.join(map(str, names[:8])) + (', …' if len(names) > 8 else '')


def _two_zero_labels(key: str, dataset: dict[str, Any], scope: str) -> tuple[str, str, str] | None:
    """A data set of label maps and its pipeline that differ in whether label 0 is ignored: mmseg stops there."""
    steps = [step for step in dataset.get('pipeline') or () if isinstance(step, dict)]
    loads = [step for step in steps if str(step.get('type')).endswith('LoadAnnotations')]
    said = next((step['reduce_zero_label'] for step in loads if step.get('reduce_zero_label') is not None), None)
    kind = dataset_class(dataset, scope)
    default = signature(kind).parameters.get('reduce_zero_label') if scope == 'mmseg' and kind is not None else None
    if said is None or default is None or dataset.get('reduce_zero_label', default.default) == said:
        return None
    return (
        f'{key}.reduce_zero_label',
        f'{not said}, but LoadAnnotations in its pipeline says {said}, and mmseg wants both alike',
        'Leave it out of the pipeline and say it in the data set: False where label 0 is a class, True where it is '
        'none and classes begin at 1.',
    )
