"""Classes of a data set, read from its config without building it."""

from inspect import signature
from pathlib import Path
from typing import Any

from mmengine.fileio import list_from_file
from mmengine.registry import DATASETS

from protuning_mm.data.empty_data_sets import list_first


def find_classes(dataset: dict[str, Any], scope: str) -> Any:
    """Find the classes of a data set: those of ``metainfo`` in its config, or those of its Python class.

    Args:
        dataset (dict): The data set's config.
        scope (str): The config's default scope.

    Returns:
        Sequence[str], optional: The classes; None if neither names any.
    """
    classes = _written_classes(dataset)[1]
    if isinstance(classes, str):  # the path of a file with names, as the host library reads it
        return list_from_file(classes) if Path(classes).is_file() else None
    if classes is None:
        kind = find_dataset_class(dataset, scope)
        classes = (getattr(kind, 'METAINFO', None) or {}).get('classes')
    return classes


def find_label_config_fault(key: str, dataset: dict[str, Any], scope: str) -> tuple[str, str, str] | None:
    """Find a wrong setting of classes or labels in a data set's config.

    Args:
        key (str): The data set's key in the config.
        dataset (dict): The data set's config.
        scope (str): The config's default scope.

    Returns:
        tuple, optional: The config key, what was found, and what would be right; None if nothing is wrong.
    """
    return _find_string_as_classes(key, dataset) or _find_reduce_zero_label_conflict(key, dataset, scope)


def _find_string_as_classes(key: str, dataset: dict[str, Any]) -> tuple[str, str, str] | None:
    """Find one class without its comma, ``('cat')``: the host libraries would take its letters as classes."""
    name, classes = _written_classes(dataset)
    if not isinstance(classes, str) or '://' in classes or Path(classes).is_file():
        return None
    return (
        f'{key}.{name}',
        f"{classes!r} is a string, but not the path of a file: the data set's classes must be a tuple or a list",
        f'Write classes=({classes!r},) for one class: without the comma, the parentheses make no tuple.',
    )


def _written_classes(dataset: dict[str, Any]) -> tuple[str, Any]:
    """Return the key and value of the classes in a data set's config."""
    if dataset.get('classes') is not None:
        return 'classes', dataset['classes']
    return 'metainfo.classes', (dataset.get('metainfo') or {}).get('classes')


def find_dataset_class(dataset: dict[str, Any], scope: str) -> Any:
    """Find the Python class of a data set in the registry of its host library; None if there is no such class."""
    kind = dataset.get('type')
    return DATASETS.get(kind if '.' in kind else f'{scope}.{kind}') if isinstance(kind, str) else kind


def explain_unknown_categories(classes: Any, content: dict[str, Any], path: Path) -> tuple[str, str] | None:
    """Name classes that are no categories of an annotation file, and say what to write instead.

    Args:
        classes (Sequence[str]): The data set's classes.
        content (dict): The content of the file.
        path (Path): The file.

    Returns:
        tuple, optional: What was found, and what would be right; None if all classes are categories.
    """
    categories = [category.get('name') for category in content['categories']]
    unknown = [name for name in classes if name not in categories]
    if not unknown:
        return None
    return (
        f'{len(unknown)} of its {len(classes)} classes are no categories of {str(path)!r}: {list_first(unknown)}. '
        f'The file has {len(categories)}: {list_first(categories)}',
        f'Write metainfo=dict(classes=({", ".join(repr(name) for name in categories[:3])}, …)) in the data set, with '
        'the names as in the file, and set num_classes of the heads to their number.',
    )


def _find_reduce_zero_label_conflict(key: str, dataset: dict[str, Any], scope: str) -> tuple[str, str, str] | None:
    """Find a data set of label maps that ignores label 0 while its pipeline does not, or the reverse: mmseg fails."""
    steps = [step for step in dataset.get('pipeline') or () if isinstance(step, dict)]
    loads = [step for step in steps if str(step.get('type')).endswith('LoadAnnotations')]
    in_pipeline = next((step['reduce_zero_label'] for step in loads if step.get('reduce_zero_label') is not None), None)
    kind = find_dataset_class(dataset, scope)
    default = signature(kind).parameters.get('reduce_zero_label') if scope == 'mmseg' and kind is not None else None
    if in_pipeline is None or default is None or dataset.get('reduce_zero_label', default.default) == in_pipeline:
        return None
    return (
        f'{key}.reduce_zero_label',
        f'{not in_pipeline}, but LoadAnnotations in its pipeline says {in_pipeline}, and mmseg requires equal values',
        'Remove it from the pipeline and set it in the data set: False if label 0 is a class, True if 0 means "no '
        'class" and the classes begin at 1.',
    )
