"""Pages that are written from the code: the commands' ``--help``, the public API, the classes that configs name."""

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from unittest import mock

import protuning_mm
from protuning_mm import registry
from protuning_mm.cli.main import COMMANDS
from protuning_mm.engine.shortcuts import lay_shortcuts

ROOT = Path(__file__).resolve().parents[1]
# title: (introduction, registry)
REGISTRIES = {
    'Backbones': ('`type` of `model.backbone`.', registry.MODELS),
    'Tunings': ('`type` of `model.backbone.tuning`; [tunings.md](../tunings.md) compares them.', registry.TUNINGS),
    'Hooks': ('`type` of an entry of `custom_hooks` or `default_hooks`.', registry.HOOKS),
    'Optimizer constructors': ('`constructor` of `optim_wrapper`.', registry.OPTIM_WRAPPER_CONSTRUCTORS),
    'Data sets': ('`type` of `train_dataloader.dataset` and of the others.', registry.DATASETS),
    'Transforms': ('`type` of an entry of a `pipeline`.', registry.TRANSFORMS),
    'Metrics': ('`type` of `val_evaluator` and `test_evaluator`.', registry.METRICS),
}
GROUPS = {
    'Tune a model': ('tune', 'print_trainable_parameters', 'count_parameters'),
    'Deltas': ('save_delta', 'load_delta', 'extract_delta', 'merge_delta', 'save_peft', 'load_peft'),
    'Backbones and blocks': ('TunedBackbone', 'ProTunedResNet', 'PromptBlock'),
    'Frozen execution': ('freeze_efficiently', 'release', 'report'),
    'Many tasks': ('MultiTask',),
    'Data': ('convert_data', 'use_data'),
    'Extend': ('Tuning', 'TuningError', 'register_reader'),
}


def write_reference(folder: Path) -> None:
    """Write the generated pages into a folder; a page that is already as it should be keeps its time."""
    folder.mkdir(exist_ok=True)
    pages = {'commands.md': list_commands(), 'api.md': list_api(), 'config.md': list_config()}
    for name, text in pages.items():
        path = folder / name
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)


def list_commands() -> str:
    """Return the help of every command and tool."""
    parts = [
        '# Commands\n\n`protuning COMMAND` and the scripts in `tools/` are the same programs. '
        'This page is their `--help`.\n'
    ]
    for name, (module, function, _) in COMMANDS.items():
        main = getattr(import_module(f'protuning_mm.cli.{module}'), function)
        parts.append(f'## protuning {name}\n\n{_help(f"protuning {name}", main)}')
    parts.append('## Tools without a short name\n')
    for script in sorted((ROOT / 'tools').rglob('*.py')):
        found = re.search(r'^from (protuning_lab[\w.]*) import main', script.read_text(), re.MULTILINE)
        if found:
            name = str(script.relative_to(ROOT))
            parts.append(f'### {name}\n\n{_help(name, import_module(found[1]).main)}')
    return '\n'.join(parts)


def _help(name: str, main: Callable[[list[str]], None]) -> str:
    said = io.StringIO()
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(sys, 'argv', [name]))
        stack.enter_context(mock.patch.dict(os.environ, COLUMNS='92'))
        stack.enter_context(contextlib.redirect_stdout(said))
        stack.enter_context(contextlib.suppress(SystemExit))
        main(['--help'])
    if not said.getvalue().startswith('usage:'):
        raise RuntimeError(f'{name} --help printed {said.getvalue()[:80]!r}')
    return f'```text\n{said.getvalue().rstrip()}\n```\n'


def list_api() -> str:
    """Return the public names, by topic."""
    missing = set(protuning_mm.__all__) - {name for names in GROUPS.values() for name in names}
    if missing != {'TUNINGS', '__version__'}:
        raise LookupError(f'GROUPS in docs/reference_pages.py must name {sorted(missing - {"TUNINGS", "__version__"})}')
    parts = ['# Python API\n\nAll of these are imported from `protuning_mm`.\n']
    for title, names in GROUPS.items():
        parts.append(f'## {title}\n')
        for name in names:
            value = getattr(protuning_mm, name)
            kind = 'autoclass' if isinstance(value, type) else 'autofunction'
            parts.append(_auto(kind, f'{value.__module__}.{value.__qualname__}', members=name == 'MultiTask'))
    return '\n'.join(parts)


def list_config() -> str:
    """Return the keys of configs that this package adds, and the classes that a config can name."""
    parts = [
        '# Config keys\n\nConfigs are those of the host libraries. This page lists what the package adds.\n',
        '## Short keys\n\nEach stands for changes in many places of a config.\n',
        _auto('autofunction', f'{lay_shortcuts.__module__}.{lay_shortcuts.__qualname__}'),
    ]
    for title, (introduction, classes) in REGISTRIES.items():
        parts.append(f'## {title}\n\n{introduction}\n')
        classes.import_from_location()
        for name, cls in sorted(classes.module_dict.items()):
            where = '' if classes is registry.TUNINGS else 'protuning_mm.'
            parts.append(f'### {where}{name}\n')
            indexed = cls.__name__ not in protuning_mm.__all__  # those are indexed on the page of the API
            parts.append(_auto('autoclass', f'{cls.__module__}.{cls.__qualname__}', index=indexed))
    return '\n'.join(parts)


def _auto(kind: str, target: str, members: bool = False, index: bool = True) -> str:
    options = (':members:\n' if members else '') + ('' if index else ':no-index:\n')
    return f'```{{eval-rst}}\n.. {kind}:: {target}\n' + ''.join(f'   {o}\n' for o in options.splitlines()) + '```\n'
