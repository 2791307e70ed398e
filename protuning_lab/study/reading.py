"""Reads a study's file, and says what in it does not fit."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from protuning_lab.study.definition import COLUMNS, Layout, LearningRate, Study, Value
from protuning_lab.study.errors import StudyError, meant
from protuning_mm.engine.config import read_config
from protuning_mm.engine.errors import ConfigError

_NAME = re.compile(r'[\w.+-]+')  # what stands in a folder's name and in a comma-separated list
_RULES = ('greater', 'less')
_KEYS = {
    'title': str,
    'work_dir': str,
    'config': str,
    'options': Mapping,
    'axes': Mapping,
    'skip': Sequence,
    'learning_rate': Mapping,
    'seeds': Sequence,
    'test': Mapping,
    'table': Mapping,
    'validate': str,
    'keep_checkpoints': bool,
    'allow_test_as_validation': bool,
}


def read_study(path: str | Path) -> Study:
    """Read a study's file.

    Raises:
        StudyError: there is no such file, or a part of it does not fit; names the part, and what would.
    """
    path = Path(path)
    if not path.is_file():
        raise StudyError(f'there is no study {str(path)!r} in {Path.cwd()}')
    try:
        raw = read_config(path).to_dict()
    except ConfigError as error:
        raise StudyError(str(error)) from error
    for key, value in raw.items():
        _check_key(path, key, value)
    axes = _axes(path, raw.get('axes'))
    learning_rate = _learning_rate(raw['learning_rate']) if raw.get('learning_rate') else None
    configs = [value.config for axis in axes.values() for value in axis.values()]
    config = _config(path, 'config', raw['config']) if 'config' in raw else None
    if config is None and not any(configs):
        raise StudyError(f"{path}: no config: write config='<path from this file>'")
    if learning_rate is None and any(value.learning_rates for axis in axes.values() for value in axis.values()):
        raise StudyError(f'{path}: learning_rates of a value need learning_rate=dict(key=…, metric=…) in the study')
    return Study(
        path=path,
        title=raw.get('title', path.stem),
        work_dir=Path(raw.get('work_dir', f'work_dirs/studies/{path.stem}')),
        config=config,
        options=dict(raw.get('options', {})),
        axes=axes,
        skip=[_skip(each, axes) for each in raw.get('skip', ())],
        learning_rate=learning_rate,
        seeds=_seeds('seeds', raw.get('seeds', (0,))),
        test=_tests(raw.get('test') or {'test': {}}),
        table=_layout(raw.get('table', {}), axes, learning_rate),
        validate=_one_of('validate', raw.get('validate', 'end'), ('end', 'as configured')),
        keep_checkpoints=raw.get('keep_checkpoints', False),
        allow_test_as_validation=raw.get('allow_test_as_validation', False),
    )


def _check_key(path: Path, key: str, value: Any) -> None:
    """A study's file may have names of its own; one that is nearly ours is a slip."""
    if key not in _KEYS:
        near = meant(key, _KEYS)
        if near:
            raise StudyError(f'{path}: {key} is no part of a study{near}')
    elif not isinstance(value, _KEYS[key]) or (_KEYS[key] is Sequence and isinstance(value, str)):
        raise StudyError(f'{path}: {key}={value!r} is a {type(value).__name__}, must be {_KEYS[key].__name__.lower()}')


def _config(path: Path, where: str, name: str) -> Path:
    found = path.parent / name
    if not found.is_file():
        raise StudyError(f'{path}: {where}={name!r}: there is no file {str(found)!r}; paths start at the study')
    return found.resolve()


def _axes(path: Path, raw: Mapping[str, Any] | None) -> dict[str, dict[str, Value]]:
    if not raw:
        raise StudyError(f'{path}: no axes: write axes=dict(tuning=dict(pro={{…}}, linear={{…}}))')
    axes: dict[str, dict[str, Value]] = {}
    for axis, values in raw.items():
        if not _NAME.fullmatch(axis):
            raise StudyError(f'axes.{axis}: a name has letters, digits and ._+- alone')
        if axis in ('why', *COLUMNS):
            raise StudyError(f'axes.{axis}: take another name; the tables have a column {axis!r} of their own')
        if not isinstance(values, Mapping) or not values:
            raise StudyError(f'axes.{axis}={values!r}: must be a dict of names, each with a dict of options')
        axes[axis] = {name: _value(path, f'axes.{axis}.{name}', name, options) for name, options in values.items()}
    return axes


def _value(path: Path, where: str, name: str, options: Any) -> Value:
    if not _NAME.fullmatch(str(name)):
        raise StudyError(f'{where}: a name has letters, digits and ._+- alone')
    if not isinstance(options, Mapping):
        raise StudyError(f'{where}={options!r}: must be a dict of options, as --cfg-options takes them')
    options = dict(options)
    config = _config(path, f'{where}.config', options.pop('config')) if 'config' in options else None
    rates = _numbers(f'{where}.learning_rates', options.pop('learning_rates')) if 'learning_rates' in options else None
    return Value(str(name), options, config, rates)


def _skip(raw: Any, axes: Mapping[str, Mapping[str, Value]]) -> dict[str, Any]:
    if not isinstance(raw, Mapping) or 'why' not in raw or len(raw) < 2:
        raise StudyError(f"skip: {raw!r} must name values of axes and a reason: dict(tuning='vpt', why='…')")
    found: dict[str, Any] = {'why': str(raw['why'])}
    for axis, names in raw.items():
        if axis != 'why':
            found[axis] = names_of(f'skip: {axis}', axis, [names] if isinstance(names, str) else names, axes)
    return found


def names_of(where: str, axis: str, names: Sequence[str], axes: Mapping[str, Mapping[str, Value]]) -> tuple[str, ...]:
    """Check that an axis and values of it exist.

    Raises:
        StudyError: one does not.
    """
    if axis not in axes:
        raise StudyError(f'{where}: there is no axis {axis!r}, but {", ".join(axes)}{meant(axis, axes)}')
    for name in names:
        if name not in axes[axis]:
            raise StudyError(f'{where}: {axis} has no value {name!r}, but {", ".join(axes[axis])}')
    return tuple(names)


def _learning_rate(raw: Mapping[str, Any]) -> LearningRate:
    known = ('key', 'values', 'seeds', 'metric', 'rule')
    for key in raw:
        if key not in known:
            raise StudyError(f'learning_rate.{key}: not one of {", ".join(known)}{meant(key, known)}')
    missing = [key for key in ('values', 'metric') if key not in raw]
    if missing:
        raise StudyError(f'learning_rate: {" and ".join(missing)} missing: dict(values=(1e-3, 1e-2), metric=…)')
    return LearningRate(
        key=raw.get('key', 'optim_wrapper.optimizer.lr'),
        values=_numbers('learning_rate.values', raw['values']),
        seeds=_seeds('learning_rate.seeds', raw.get('seeds', (0,))),
        metric=raw['metric'],
        rule=_one_of('learning_rate.rule', raw.get('rule', 'greater'), _RULES),
    )


def _layout(raw: Mapping[str, Any], axes: Mapping[str, Any], learning_rate: LearningRate | None) -> Layout:
    known = ('rows', 'columns', 'metric', 'rule', 'scale', 'digits', 'highlight')
    for key in raw:
        if key not in known:
            raise StudyError(f'table.{key}: not one of {", ".join(known)}{meant(key, known)}')
    rows = raw.get('rows', list(axes)[-1])
    columns = raw.get('columns', [axis for axis in axes if axis != rows])
    columns = (columns,) if isinstance(columns, str) else tuple(columns)
    for axis in (rows, *columns):
        if axis not in axes:
            raise StudyError(f'table: there is no axis {axis!r}, but {", ".join(axes)}{meant(axis, axes)}')
    if rows in columns:
        raise StudyError(f'table: {rows!r} cannot be the rows and among the columns')
    if 'highlight' in raw:
        names_of('table.highlight', rows, (raw['highlight'],), axes)
    return Layout(
        rows=rows,
        columns=columns,
        metric=raw.get('metric', learning_rate.metric if learning_rate else None),
        rule=_one_of('table.rule', raw.get('rule', learning_rate.rule if learning_rate else 'greater'), _RULES),
        scale=float(raw.get('scale', 1.0)),
        digits=int(raw.get('digits', 2)),
        highlight=raw.get('highlight'),
    )


def _tests(raw: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    allowed = ('test_dataloader', 'test_evaluator', 'test_cfg')
    for name, options in raw.items():
        if not isinstance(options, Mapping):
            raise StudyError(f'test.{name}={options!r}: must be a dict of options, as --cfg-options takes them')
        for key in options:
            if key.split('.')[0] not in allowed:
                raise StudyError(f'test.{name}: {key!r}: the model is trained by then; only {", ".join(allowed)}')
    return {str(name): dict(options) for name, options in raw.items()}


def _numbers(where: str, raw: Any) -> tuple[float, ...]:
    numbers = (raw,) if isinstance(raw, int | float) else raw
    good = isinstance(numbers, Sequence) and numbers and all(isinstance(each, int | float) for each in numbers)
    # as they stand in a folder's name
    if not good or len({f'{each:g}' for each in numbers}) < len(numbers):
        raise StudyError(f'{where}={raw!r}: must be different numbers, such as (1e-3, 1e-2)')
    return tuple(float(each) for each in numbers)


def _seeds(where: str, raw: Any) -> tuple[int, ...]:
    good = isinstance(raw, Sequence) and raw and all(isinstance(each, int) and each >= 0 for each in raw)
    if not good or len(set(raw)) < len(raw):
        raise StudyError(f'{where}={raw!r}: must be different whole numbers, such as (0, 1, 2)')
    return tuple(raw)


def _one_of(where: str, value: Any, known: tuple[str, ...]) -> str:
    if value not in known:
        raise StudyError(f'{where}={value!r}: must be one of {known}')
    return str(value)
