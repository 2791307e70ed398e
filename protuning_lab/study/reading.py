"""Reads a study's file and says which key in it is wrong, what stands there, and what would be right."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from protuning_lab.study.definition import Layout, LearningRate, Study
from protuning_lab.study.errors import StudyError, meant
from protuning_mm.engine.config import read_config
from protuning_mm.engine.errors import ConfigError

_KEYS = {'learning_rate': list(LearningRate.model_fields), 'table': list(Layout.model_fields)}
_STUDY_KEYS = [field.alias or name for name, field in Study.model_fields.items() if name != 'path']


def read_study(path: str | Path) -> Study:
    """Read a study's file.

    Raises:
        StudyError: the file does not exist, or a key in it is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise StudyError(f'there is no study {str(path)!r} in {Path.cwd()}')
    try:
        raw = read_config(path).to_dict()
    except ConfigError as error:
        raise StudyError(str(error)) from error
    for key in raw:
        near = meant(key, _STUDY_KEYS)
        if key not in _STUDY_KEYS and near:  # a name of its own may stand there, a misspelt key may not
            raise StudyError(f'{path}: {key} is no part of a study{near}')
    defaults = dict(title=path.stem, work_dir=f'work_dirs/studies/{path.stem}', axes={})
    try:
        return Study.model_validate(defaults | raw | dict(path=path), context=path)
    except ValidationError as error:
        raise StudyError('\n'.join(f'{path}: {_told(each)}' for each in error.errors())) from None


def _told(error: Any) -> str:
    """Say an error of pydantic in the words of a study."""
    *parents, last = (str(part) for part in error['loc'] if part != '[key]') if error['loc'] else ('',)
    where, group = '.'.join([*parents, last]), '.'.join(parents)
    cause = error.get('ctx', {}).get('error')
    if isinstance(cause, StudyError):
        return str(cause)
    if error['type'] == 'extra_forbidden':
        return f'{where}: not one of {", ".join(_KEYS[group])}{meant(last, _KEYS[group])}'
    if error['type'] == 'missing':
        return f'{group}: {last} missing'
    if error['type'] == 'literal_error':
        said = f'must be one of {error["ctx"]["expected"]}'
    else:
        said = str(cause or error['msg']).replace('Input should be', 'must be')
    return f'{where}: {said}' if '[key]' in error['loc'] else f'{where}={error["input"]!r}: {said}'
