"""Generated bad calls of every command: one message and an exit status, no traceback and no partial file."""

import argparse
import importlib
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from protuning_lab.study.isolation import isolate_run
from tests.test_multitask.tasks import Workshop

STATUS = (None, 0, 1, 2)  # as documented; a message means 1
WORDS = ('', 'x', '-1', '0', '1.5', 'nan', '9' * 30, 'None', '[]', '\u00e9 \u00df', "'", '--', '=', '../..')
OPTIONS = (
    'x', 'model', 'model=1', 'model.backbone=[1]', 'model.backbone.type=Nope', 'model.backbone.depth=x',
    'model.backbone.tuning=nope', 'model.nope.0.x=1', 'model.decode_head.7=1', 'test_dataloader=1', 'k=[1,(2]',
    'default_scope=nope', 'data_root=nope', 'model.type=os.system', '=1', 'model.backbone.out_indices=9',
)  # fmt: skip


class Files:
    """Valid files, from which valid calls are made, and invalid files of many kinds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shop = shop = Workshop(folder)
        self.config, self.whole = str(shop.configs['seg']), shop.task('seg')[1]
        self.classifier, self.classifier_whole = str(shop.configs['cls']), shop.task('cls')[1]
        self.delta = shop.task('seg', form='delta')[1]
        self.image = shop.images[0]
        bad = folder / 'bad'
        (bad / 'empty_folder').mkdir(parents=True)
        for name in ('empty', 'empty.py', 'empty.pth', 'empty.json', 'empty.jpg'):
            (bad / name).write_bytes(b'')
        (bad / 'name_error.py').write_text('model = dict(type=undefined)\n')
        (bad / 'syntax.py').write_text('model = dict(\n')
        (bad / 'raises.py').write_text('x = 1 / 0\n')
        (bad / 'no_base.py').write_text("_base_ = './nope.py'\n")
        (bad / 'no_model.py').write_text("default_scope = 'mmseg'\n")
        (bad / 'unknown.py').write_text("default_scope = 'mmseg'\nmodel = dict(type='Nope')\n")
        (bad / 'text.pth').write_text('this is no checkpoint\n')
        (bad / 'bytes.pth').write_bytes(random.Random(0).randbytes(1000))
        (bad / 'text.jpg').write_text('this is no image\n')
        (bad / 'broken.json').write_text('{"images": [')
        torch.save(dict(state_dict={'a': torch.zeros(2)}), bad / 'other.pth')
        torch.save([1, 2], bad / 'list.pth')
        self.paths = [*map(str, sorted(bad.iterdir())), str(folder / 'nope'), '/proc/nope', self.config, self.whole]
        self.paths += [self.image, self.classifier_whole, self.delta, 'https://127.0.0.1:9/x.pth', 'nope://x']

    def valid_call(self, command: str, out: Path) -> list[str]:
        """Return the arguments of a valid call that ends soon."""
        seg, cls = [self.config, self.whole], [self.classifier, self.classifier_whole]
        return {
            'train': [self.config, '--work-dir', str(out)],
            'test': [*seg, '--work-dir', str(out)],
            'predict': [*seg, self.image, '--out', str(out)],
            'doctor': [self.config, '--no-step'],
            'export': [*cls, str(out / 'x.ts'), '--size', '32', '32'],
            'convert_delta:main_extract': [*seg, str(out / 'd.pth')],
            'convert_delta:main_merge': [self.config, self.delta, str(out / 'w.pth')],
            'inspect_delta': [self.delta],
            'multitask': ['--task', f'a={self.config},{self.whole}', '--image', self.image, '--out', str(out)],
            'lab.pictures.visualize_prompts': [*seg, self.image, '--out', str(out)],
            'lab.pictures.plot_runs': [str(self.folder), '--metric', 'loss', '--out', str(out / 'x.png')],
            'lab.pictures.plot_long_tail': [
                *(f'a={self.whole}', '--config', self.classifier, '--out', str(out / 'x.png'))
            ],
            'count_params': [self.config],
            'lab.parameter_grid': ['--json'],
            'lab.compare_runs': [self.config, '--metric', 'mIoU', '--variant', 'a', '--work-dir', str(out)],
            'lab.make_cifar_c': [str(self.folder), str(out)],
            'lab.cache_images': [str(self.classifier), str(out), '--size', '8'],
            'lab.study.command': [self.config, '--work-dir', str(out)],
            'lab.benchmarks.frozen': ['--depth', '18', '--size', '32', '32', '--rounds', '0', '--methods', 'linear'],
            'lab.benchmarks.deltas': [self.config, '--rounds', '1'],
            'lab.benchmarks.multitask': ['--depth', '18', '--size', '32', '--tasks', '1', '--rounds', '1'],
        }[command]


COMMANDS = (
    'train', 'test', 'predict', 'doctor', 'export', 'convert_delta:main_extract', 'convert_delta:main_merge',
    'inspect_delta', 'multitask', 'count_params', 'lab.pictures.visualize_prompts', 'lab.pictures.plot_runs',
    'lab.pictures.plot_long_tail', 'lab.parameter_grid', 'lab.compare_runs', 'lab.make_cifar_c', 'lab.cache_images',
    'lab.study.command', 'lab.benchmarks.frozen', 'lab.benchmarks.deltas', 'lab.benchmarks.multitask',
)  # fmt: skip

SLOW = ('lab.parameter_grid', 'lab.compare_runs', 'lab.benchmarks.deltas')  # a valid call of these takes many seconds


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp('files'))


@pytest.fixture(autouse=True)
def run_in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))  # where tracebacks are written
    monkeypatch.delenv('PROTUNING_MM_TRACEBACK', raising=False)
    with isolate_run():  # restores loggers, which may write to the captured output of another test
        yield


def main_of(command: str) -> Callable[[list[str]], None]:
    module, _, name = command.partition(':')
    room = 'protuning_lab' if module.startswith('lab.') else 'protuning_mm.cli'
    return getattr(importlib.import_module(f'{room}.{module.removeprefix("lab.")}'), name or 'main')


def parser_flags(command: str, argv: list[str], monkeypatch: pytest.MonkeyPatch) -> list[argparse.Action]:
    """Return the flags of a command's parser."""
    seen: list[argparse.ArgumentParser] = []

    def stop(self: argparse.ArgumentParser, *_: object) -> None:
        seen.append(self)
        raise SystemExit(0)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(argparse.ArgumentParser, 'parse_args', stop)
        main_of(command)(argv)
    return [action for action in seen[0]._actions if action.option_strings and action.dest != 'help']


def damage(valid: list[str], known: list[argparse.Action], files: Files, rng: random.Random) -> list[str]:
    """Return a valid call with one or two errors."""
    argv = list(valid)
    for _ in range(rng.choice((1, 1, 2))):
        kind = rng.choice(('replace', 'replace', 'replace', 'drop', 'option', 'flag'))
        i = rng.randrange(len(argv))
        if kind == 'replace':
            argv[i] = rng.choice((*WORDS, *files.paths, *files.paths))
        elif kind == 'drop' and len(argv) > 1:
            del argv[i]
        elif kind == 'option' and any(action.dest == 'cfg_options' for action in known):
            argv += ['--cfg-options', *rng.sample(OPTIONS, rng.choice((1, 1, 2)))]
        else:
            action = rng.choice(known)
            value = [] if action.nargs == 0 and rng.random() < 0.7 else [rng.choice((*WORDS, *files.paths))]
            argv += [rng.choice(action.option_strings), *value]
    return argv


def run(command: str, argv: list[str]) -> str | int | None:
    try:
        main_of(command)(argv)
    except SystemExit as stop:
        return stop.code
    return None


def check(command: str, argv: list[str], capfd: pytest.CaptureFixture, folder: Path) -> None:
    code = run(command, argv)
    output = ''.join(capfd.readouterr())
    if isinstance(code, str):
        assert code.startswith('error: ') and len(code) > 15, (argv, code)
    else:
        assert code in STATUS, (argv, code)
    assert 'Traceback (most recent call last)' not in f'{code}{output}', (argv, code, output[-2000:])
    left = [path for path in folder.rglob('*') if path.name.endswith(('.part', '.tmp'))]
    assert not left, (argv, left)


@pytest.mark.parametrize(
    ('command', 'number'),
    [(command, 1) for command in COMMANDS if command not in SLOW]
    + [pytest.param(command, 12, marks=pytest.mark.slow) for command in COMMANDS],
)
def test_generated_bad_calls(
    command: str,
    number: int,
    files: Files,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
) -> None:
    valid = files.valid_call(command, tmp_path / 'out')
    known, rng = parser_flags(command, valid, monkeypatch), random.Random(f'{command} {number}')
    for _ in range(number):
        check(command, damage(valid, known, files, rng), capfd, tmp_path)
