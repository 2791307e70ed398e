"""The benchmark of frozen execution, for backbones and for whole models."""

import gc
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from protuning_lab.benchmarks.earlier import load_frozen_package
from protuning_lab.benchmarks.frozen import CHECKPOINTED, EFFICIENT, HOST, INT8, PLAIN, RECOMPUTE, main
from protuning_lab.measure import kept_by_operation, kept_memory, median_ratio, peak_memory
from protuning_mm import frozen

CPU = torch.device('cpu')
ROOT = Path(__file__).parents[2]


def test_memory_is_what_is_allocated() -> None:
    """At most two mebibytes are allocated; the multiplication keeps one of them."""
    weight = nn.Linear(1, 1)
    factor = torch.ones(2**18, requires_grad=True)

    def step() -> torch.Tensor:
        first = torch.ones(2**18)
        return first * factor

    assert peak_memory(step, CPU) == pytest.approx(2, abs=0.01)
    assert kept_memory(step, weight) == pytest.approx(1, abs=0.01)
    assert kept_by_operation([step()], weight) == {'MulBackward0': pytest.approx(1, abs=0.01)}


def test_peak_memory_does_not_depend_on_when_garbage_is_collected() -> None:
    """A tensor in a reference cycle lives until the step ends, whenever Python would run its garbage collector."""
    assert gc.isenabled()

    def step() -> None:
        cycle: list[object] = [torch.ones(2**18)]
        cycle.append(cycle)
        del cycle
        many: list[list[int]] = [[] for _ in range(50_000)]  # would trigger the garbage collector
        torch.ones(2**18)
        del many

    assert peak_memory(step, CPU) == pytest.approx(2, abs=0.01)
    assert gc.isenabled()


def test_median_ratio_is_computed_by_round() -> None:
    assert median_ratio([1, 20, 3], [2, 40, 3]) == 0.5


@pytest.mark.slow
def test_backbone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, picture = tmp_path / 'x.json', tmp_path / 'x.png'
    flags = '--depth 18 --size 64 96 --rounds 1 --device cpu --by-operation --fit 0.1'
    main([*flags.split(), '--json', str(out), '--plot', str(picture)])
    found = json.loads(out.read_text())
    rows = found['results']['ResNet-18']
    assert found['setting'] == '2×3×64×96, float32' and found['machine']['torch'] == torch.__version__
    names = [
        'full fine-tuning',
        HOST,
        PLAIN,
        EFFICIENT,
        INT8,
        RECOMPUTE,
        CHECKPOINTED,
        'Partial-1',
        'bias',
        'ladder',
        'linear',
        'no tuning, host',
    ]
    assert list(rows) == names
    assert rows[EFFICIENT]['kept'] < 0.3 * rows[PLAIN]['kept'] < rows['full fine-tuning']['kept']
    assert rows['linear']['kept'] == 0 and rows[EFFICIENT]['peak'] < rows[PLAIN]['peak']
    assert rows[EFFICIENT]['largest batch'] >= rows['full fine-tuning']['largest batch'] >= 1
    assert sum(rows[PLAIN]['kept by operation'].values()) == pytest.approx(rows[PLAIN]['kept'], rel=0.02)
    assert all(len(rows[name]['seconds']['step']) == 1 for name in names[:-1])
    assert len(rows['no tuning, host']['seconds']['evaluation']) == 2
    assert picture.read_bytes().startswith(b'\x89PNG')
    printed = capsys.readouterr().out
    assert f'| {PLAIN} | {rows[PLAIN]["peak"]:.0f} (1.000) |' in printed


@pytest.mark.parametrize('options', [['--dtype', 'bfloat16'], ['--channels-last'], ['--backbone', 'deit_s']], ids=str)
def test_other_settings(options: list[str], tmp_path: Path) -> None:
    out = tmp_path / 'x.json'
    size = ['224', '224'] if 'deit_s' in options else ['64', '64']
    flags = '--depth 18 --batch 1 --rounds 0 --methods Pro'
    main([*flags.split(), '--size', *size, '--json', str(out), *options])
    (rows,) = json.loads(out.read_text())['results'].values()
    assert list(rows) == [PLAIN, EFFICIENT, INT8, RECOMPUTE, CHECKPOINTED]
    assert rows[EFFICIENT]['kept'] < rows[PLAIN]['kept']
    if 'bfloat16' not in options:  # where plain torch's own rounding is of that size
        assert all(row['error'] < 0.05 for name, row in rows.items() if name != PLAIN)


@pytest.mark.parametrize('model', ['fcn', pytest.param('htc', marks=pytest.mark.slow)])
def test_whole_models(model: str, tmp_path: Path) -> None:
    out = tmp_path / 'x.json'
    main(['--models', model, '--size', '64', '64', '--rounds', '0', '--methods', 'Pro', '--json', str(out)])
    rows = json.loads(out.read_text())['results'][model]
    assert rows[EFFICIENT]['kept'] < rows[PLAIN]['kept'] and rows[EFFICIENT]['peak'] < rows[PLAIN]['peak']


def test_unknown_method_raises() -> None:
    with pytest.raises(
        SystemExit, match=r"--methods Protuning: none of full fine-tuning, host's default, .* begins so"
    ):
        main(['--depth', '18', '--methods', 'Protuning', '--rounds', '0'])


@pytest.mark.skipif(not (ROOT / '.git').exists(), reason='not a git checkout')
def test_against_a_commit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The commit's own package runs: it is imported from git under a name of its own."""
    out = tmp_path / 'x.json'
    main(['--depth', '18', '--size', '32', '32', '--rounds', '3', '--against', 'HEAD', '--json', str(out)])
    times = json.loads(out.read_text())['results']['ResNet-18']
    assert {version: {part: len(found) for part, found in parts.items()} for version, parts in times.items()} == {
        'HEAD': dict(step=3, evaluation=3),
        'this version': dict(step=3, evaluation=3),
    }
    ratio = median_ratio(times['this version']['step'], times['HEAD']['step'])
    printed = capsys.readouterr().out
    assert next(line for line in printed.splitlines() if line.startswith('| step')).endswith(f'| {ratio:.3f} |')
    package = load_frozen_package('HEAD')
    network = nn.Sequential(nn.Conv2d(3, 4, 1)).requires_grad_(False)
    assert '1 Conv2d' in str(package.freeze_efficiently(network)) and package is not frozen
    assert type(network[0].forward).__module__.startswith('frozen_at_HEAD.')
    with pytest.raises(ValueError, match='--against nowhere: git cannot read protuning_mm/frozen'):
        load_frozen_package('nowhere')


def test_against_takes_a_backbone_in_float32(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match='2'):
        main(['--against', 'HEAD', '--models', 'fcn'])
    assert '--against times a backbone in float32: leave out --models' in capsys.readouterr().err
