"""Reading a config and applying command line options to it."""

import traceback
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.utils import get_installed_path

from protuning_mm.engine.errors import ConfigError
from protuning_mm.engine.shortcuts import lay_shortcuts
from protuning_mm.engine.tuning_options import with_whole_tunings


def read_config(path: str | Path, options: Mapping[str, Any] | None = None) -> Config:
    """Read a config file and apply options to it.

    Args:
        path (str | Path): The config file, or a config inside a package, such as
            ``mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py``.
        options (Mapping, optional): Dotted keys and values, as in ``--cfg-options``.

    Raises:
        ConfigError: the file is missing, the file cannot be read (with file and line), an option does not fit the
            config, or one of the keys of :func:`lay_shortcuts` does not.
        DataError: its ``data`` is no folder that ``protuning data convert`` has written.
    """
    if '::' in str(path):
        path = _find_in_package(str(path))
    if not Path(path).is_file():
        raise ConfigError(f'there is no config {str(path)!r} in {Path.cwd()}')
    try:
        cfg = Config.fromfile(str(path))
    except Exception as error:
        message = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ConfigError(
            f'config {path} cannot be read: {_where(error, path)}{type(error).__name__}: {message}'
        ) from error
    lay_options(cfg, options or {})
    return lay_shortcuts(cfg)


def _find_in_package(name: str) -> Path:
    """Find a config that an installed package contains.

    Raises:
        ConfigError: the package is not installed or has no such config.
    """
    package, _, inner = name.partition('::')
    try:
        path = Path(Config._get_cfg_path(name, '')[0])
    except FileNotFoundError:
        path = Path(get_installed_path(package)) / '.mim/configs' / inner
    except (ImportError, ValueError, KeyError, AssertionError):
        raise ConfigError(
            f'config {name}: {package!r} is not an installed package with configs, such as mmdet, mmseg or mmpretrain'
        ) from None
    if path.is_file():
        return path
    folder = path.parent if path.parent.is_dir() else path.parent.parent
    near = get_close_matches(path.name, [each.name for each in folder.glob('*.py')], n=3, cutoff=0.5)
    near = near or get_close_matches(path.parent.name, [each.name for each in folder.glob('*/')], n=3)
    raise ConfigError(f'config {name}: {package} has no such config' + (f'; near: {", ".join(near)}' if near else ''))


def lay_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Apply ``--cfg-options`` to a config.

    Args:
        cfg (Config): Changed in place.
        options (Mapping): Dotted keys and values.

    Raises:
        ConfigError: an option does not fit the config.
    """
    for key, value in with_whole_tunings(cfg, options).items():
        try:
            cfg.merge_from_dict({key: value})
        except (TypeError, KeyError, IndexError, ValueError, AttributeError) as error:
            message = error.args[0] if error.args else type(error).__name__
            raise ConfigError(f'--cfg-options {key}={value} does not fit the config: {message}') from None


def _where(error: Exception, path: str | Path) -> str:
    """Return the file and line that an error came from, which may be in one of the config's base files."""
    file, line = None, None
    for frame, number in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name in ('_file2dict', '_is_lazy_import'):  # mmengine calls these for each file
            file, line = Path(frame.f_locals['filename']).absolute(), None
        elif frame.f_code.co_name == '<module>' and frame.f_code.co_filename == str(file):
            line = number
    if line is None and isinstance(error, SyntaxError):
        line = error.lineno
    if file is None or (line is None and file == Path(path).absolute()):
        return ''
    return f'{file}: ' if line is None else f'{file}, line {line}: '


def move_data_root(cfg: Config, old: str, new: str) -> None:
    """Replace the data root in every path of a config.

    The data sets of a config copy its ``data_root`` variable when the config is parsed, so overriding the variable
    afterwards has no effect.

    Args:
        cfg (Config): Changed in place.
        old (str): The data root in the config.
        new (str): The data root to use instead.
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

    moved(cfg._cfg_dict)
