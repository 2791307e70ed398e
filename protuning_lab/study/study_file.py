"""Reads a study's file. Errors name the wrong key, its value, and what is allowed."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from protuning_lab.study.definition import Layout, LearningRate, Study
from protuning_lab.study.errors import StudyError, did_you_mean
from protuning_mm.engine.config import read_config
from protuning_mm.engine.errors import ConfigError

_KEYS = {'learning_rate': list(LearningRate.model_fields), 'table': list(Layout.model_fields)}
_STUDY_KEYS = [field.alias or name for name, field in Study.model_fields.items() if name != 'path']


def read_study(path: str | Path) -> Study:
    """Read a study's file.

    Raises:
        StudyError: the file does not exist or cannot be read, or a key or value in it is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise StudyError(f'study {str(path)!r} does not exist (working directory: {Path.cwd()})')
    try:
        raw = read_config(path).to_dict()
    except ConfigError as error:
        raise StudyError(str(error)) from error
    for key in raw:
        suggestion = did_you_mean(key, _STUDY_KEYS)
        if key not in _STUDY_KEYS and suggestion:  # helper variables are allowed, misspelt keys are not
            raise StudyError(f'{path}: a study has no key {key!r}{suggestion}')
    defaults = dict(title=path.stem, work_dir=f'work_dirs/studies/{path.stem}', axes={})
    try:
        return Study.model_validate(defaults | raw | dict(path=path), context=path)
    except ValidationError as error:
        raise StudyError('\n'.join(f'{path}: {_format_error(each)}' for each in error.errors())) from None


def _format_error(error: Any) -> str:
    """Format an error of pydantic with the names of the study's keys."""
    *parents, last = (str(part) for part in error['loc'] if part != '[key]') if error['loc'] else ('',)
    where, group = '.'.join([*parents, last]), '.'.join(parents)
    cause = error.get('ctx', {}).get('error')
    if isinstance(cause, StudyError):
        return str(cause)
    if error['type'] == 'extra_forbidden':
        return f'{where}: unknown key; the keys are {", ".join(_KEYS[group])}{did_you_mean(last, _KEYS[group])}'
    if error['type'] == 'missing':
        return f'{group}: {last} is missing'
    if error['type'] == 'literal_error':
        message = f'must be one of {error["ctx"]["expected"]}'
    else:
        message = str(cause or error['msg']).replace('Input should be', 'must be')
    return f'{where}: {message}' if '[key]' in error['loc'] else f'{where}={error["input"]!r}: {message}'
