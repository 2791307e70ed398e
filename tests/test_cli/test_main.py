"""``protuning COMMAND``: help, wrong commands and errors."""

import subprocess
import sys
from collections.abc import Sequence

import pytest

from protuning_mm.cli.command import command
from protuning_mm.cli.main import COMMANDS, main
from tests.mini import REPO


@pytest.mark.parametrize('name', COMMANDS)
def test_help_of_a_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*name.split(), '--help'])
    assert ended.value.code == 0
    assert f'usage: protuning {name}' in capsys.readouterr().out


def test_tools_and_commands_are_the_same() -> None:
    """Except for tools of studies, benchmarks, figures and development."""
    tools = {
        path.stem
        for folder in ('.', 'dataset_converters', 'model_converters')
        for path in (REPO / 'tools' / folder).glob('*.py')
    }
    lab = {'study', 'visualize_prompts', 'train_source', 'make_demo_data', 'cache_images', 'make_cifar_c'}
    named = {name.replace('-', '_') for name in COMMANDS}
    renamed = {
        'convert_data': 'data convert',
        'init_config': 'init',
        'extract_delta': 'delta extract',
        'merge_delta': 'delta merge',
        'inspect_delta': 'delta inspect',
        'push_delta': 'push',
        'pull_delta': 'pull',
    }
    assert {renamed.get(tool, tool) for tool in tools - lab} == named - {'count_params'}


@pytest.mark.parametrize('words', [[], ['delta'], ['trian'], ['delta', 'extrct']])
def test_wrong_command_lists_the_commands(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert 'usage: protuning COMMAND' in capsys.readouterr().err


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    main(['--help'])
    output = capsys.readouterr().out
    assert all(name in output for name in COMMANDS)


def test_error_is_one_sentence() -> None:
    command = [sys.executable, '-m', 'protuning_mm', 'train', 'nope.py']
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "error: there is no config 'nope.py'" in done.stderr


def test_mmcv_without_operators(capsys: pytest.CaptureFixture[str]) -> None:
    @command
    def main(argv: Sequence[str] | None = None) -> None:
        raise ModuleNotFoundError("No module named 'mmcv._ext'", name='mmcv._ext')

    with pytest.raises(SystemExit, match='no compiled operators, .*: MMCV_WITH_OPS=1 pip install .*install.md'):
        main([])


def test_ctrl_c_that_a_library_replaced_by_another_error(capsys: pytest.CaptureFixture[str]) -> None:
    """mmengine formats configs in a bare ``except`` that turns every exception into a SyntaxError."""

    @command
    def main(argv: Sequence[str] | None = None) -> None:
        try:
            raise KeyboardInterrupt
        except:  # noqa: E722
            raise SyntaxError('Failed to format the config file')  # noqa: B904

    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 130
    assert 'stopped by Ctrl-C' in capsys.readouterr().err
