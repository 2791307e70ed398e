"""From what is on the command line to the config of a run."""

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from protuning_mm.engine.errors import ConfigError
from protuning_mm.engine.tuning_options import with_whole_tunings


def read_config(path: str | Path, options: Mapping[str, Any] | None = None) -> Config:
    """Read a config and lay options over it.

    Args:
        path (str | Path): The config's file.
        options (Mapping, optional): Dotted keys and values, as ``--cfg-options`` has them.

    Raises:
        ConfigError: the file is missing or cannot be read, with the line; or an option does not fit the config.
    """
    if not Path(path).is_file():
        raise ConfigError(f'there is no config {str(path)!r} in {Path.cwd()}')
    try:
        cfg = Config.fromfile(str(path))
    except Exception as error:
        said = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ConfigError(
            f'config {path} cannot be read: {_where(error, path)}{type(error).__name__}: {said}'
        ) from error
    lay_options(cfg, options or {})
    return cfg


def lay_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Lay ``--cfg-options`` over a config.

    Raises:
        ConfigError: an option does not fit the config.
    """
    for key, value in with_whole_tunings(cfg, options).items():
        try:
            cfg.merge_from_dict({key: value})
        except (TypeError, KeyError, IndexError, ValueError, AttributeError) as error:
            said = error.args[0] if error.args else type(error).__name__
            raise ConfigError(f'--cfg-options {key}={value} does not fit the config: {said}') from None


def _where(error: Exception, path: str | Path) -> str:
    """Name the file and the line that an error came from: a config's bases are read like itself."""
    file, frames = None, list(traceback.walk_tb(error.__traceback__))
    for frame, _ in frames:
        if frame.f_code.co_name in ('_file2dict', '_is_lazy_import'):  # mmengine's, for each file
            file = frame.f_locals.get('filename')
    if file is None:
        return ''
    file = str(Path(file).absolute())
    line = error.lineno if isinstance(error, SyntaxError) else None
    for frame, number in frames:
        if frame.f_code.co_name == '<module>' and frame.f_code.co_filename == file:
            line = number
    if line:
        return f'{file}, line {line}: '
    return '' if Path(file) == Path(path).absolute() else f'{file}: '


def move_data_root(cfg: Config, old: str, new: str) -> None:
    """Move every path of a config that begins with ``old`` to ``new``.

    A config's ``data_root`` is a variable that its data sets copied when it was parsed: overriding it alone would
    change nothing.

    Args:
        cfg (Config): Changed in place.
        old (str): The data root that the config was written with.
        new (str): The folder to look in.
    """
    base, target = old.rstrip('/'), str(new).rstrip('/')

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            for key in value:
                value[key] = moved(value[key])
            return value
        if isinstance(value, list | tuple):
            return type(value)(moved(item) for item in value)
        if isinstance(value, str) and (value.rstrip('/') == base or value.startswith(f'{base}/')):
            return target + value[len(base) :]
        return value

    for key in list(cfg.keys()):
        if isinstance(cfg[key], ConfigDict | list | tuple | str):
            cfg[key] = moved(cfg[key])
