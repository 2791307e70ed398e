"""The docs' worked examples run as they are written, and their tables say what the code does."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from protuning_lab.parameter_grid import BACKBONES, count_grid, main
from protuning_mm import TUNINGS, TunedBackbone, TuningError
from protuning_mm.backbones.frozen_part import find_frozen_part
from tests.families import CELLS, FAMILIES, TUNING_CFGS
from tests.mini import REPO

FENCE = re.compile(r'<!-- walk-through: ([\w.]+) -->\n```python\n(.*?)```', re.DOTALL)


def walk_through(page: str, folder: Path) -> dict[str, str]:
    """Write a page's marked blocks into a folder, each under its name."""
    blocks = dict(FENCE.findall((REPO / 'docs' / page).read_text()))
    for name, code in blocks.items():
        (folder / name).write_text(code)
    return blocks


def python(code: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, '-c', code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


NEW_TUNING = """
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
import protuning_mm

cfg = Config.fromfile('config.py')
init_default_scope(cfg.default_scope)
with MODELS.switch_scope_and_registry(cfg.default_scope) as registry:
    model = registry.build(cfg.model)
trained = {n: p for n, p in model.backbone.named_parameters() if p.requires_grad}
assert [tuple(p.shape) for p in trained.values()] == [(c, 1, 1) for c in (256, 512, 1024, 2048)], trained
assert all(n.startswith('scales.') for n in trained)
x = torch.randn(1, 3, 64, 64)
model.eval()
plain = model.backbone.untuned()
plain.eval()
with torch.no_grad():
    for a, b in zip(model.backbone(x), plain(x)):
        assert torch.equal(a, b)
sum(out.mean() for out in model.backbone(x)).backward()
assert all(p.grad.abs().sum() > 0 for p in trained.values())
print('fits')
"""


def test_a_new_tuning_as_written(tmp_path: Path) -> None:
    blocks = walk_through('tunings.md', tmp_path)
    assert set(blocks) == {'scale_tuning.py', 'config'}
    (tmp_path / 'config.py').write_text(blocks['config'])
    assert python(NEW_TUNING, tmp_path).splitlines()[-1] == 'fits'


NEW_READER = """
import torch
import tiny_net, tiny_net_reader
from mmengine.registry import MODELS
import protuning_mm
for tuning in ('pro', 'linear', 'full', 'partial', 'bias', 'side', 'conv_adapter', 'ssf', ['lora', 'bias']):
    tuned = MODELS.build(dict(type='protuning_mm.TunedBackbone', backbone=dict(type='TinyNet'), tuning=tuning))
    assert [s.channels for s in tuned.structure.stages] == [16, 32, 64]
    assert len(tuned(torch.randn(1, 3, 33, 47))) == 3
    assert (tuning == 'linear') != any(p.requires_grad for p in tuned.parameters())
print('read')
"""


def test_a_new_reader_as_written(tmp_path: Path) -> None:
    assert set(walk_through('backbones.md', tmp_path)) == {'tiny_net.py', 'tiny_net_reader.py'}
    assert python(NEW_READER, tmp_path).splitlines()[-1] == 'read'


def test_without_the_reader_the_error_says_what_is_missing(tmp_path: Path) -> None:
    walk_through('backbones.md', tmp_path)
    code = NEW_READER.replace('import tiny_net, tiny_net_reader', 'import tiny_net')
    done = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (
        "tiny_net.TinyNet cannot be read as stages: 'gate' does not run in sequence with stem, trunk.0" in done.stderr
    )
    assert "register_reader('tiny_net.TinyNet')" in done.stderr and 'docs/backbones.md' in done.stderr


def rows() -> dict[str, list[str]]:
    """The table of tunings: name -> its other cells."""
    text = (REPO / 'docs/tunings.md').read_text()
    found = re.findall(r'^\| `(\w+)` \|(.*)\|$', text, re.MULTILINE)
    return {name: [cell.strip() for cell in cells.split('|')] for name, cells in found}


@pytest.mark.parametrize('name', sorted(TUNINGS.module_dict))
def test_every_tuning_has_its_row_its_paragraph_and_its_fragment(name: str) -> None:
    _, _, starts, merges = rows()[name]
    paragraph = re.search(rf'^\*\*{name}[.*]', (REPO / 'docs/tunings.md').read_text(), re.MULTILINE)
    assert paragraph, f'docs/tunings.md has no paragraph on {name}'
    fragment = Config.fromfile(REPO / f'configs/_base_/tunings/{name}.py').tuning
    assert fragment.type == name
    assert starts.startswith('yes') == TUNINGS.get(name).identity_at_init
    family = next(f for f, t in CELLS if t == name)
    tuned = TunedBackbone(FAMILIES[family], dict(TUNING_CFGS[name]))
    try:
        tuned.merge()
        merged = True
    except TuningError:
        merged = False
    assert merges.startswith('yes') == merged


def documented() -> dict[str, dict[str, dict[str, str]]]:
    """docs/parameters.md: task -> tuning -> backbone -> the cell."""
    text = (REPO / 'docs/parameters.md').read_text().split('## Tables')[1]
    grid: dict[str, dict[str, dict[str, str]]] = {}
    for section in text.split('### ')[1:]:
        task, *lines = section.strip().splitlines()
        header, _, *body = (
            [cell.strip() for cell in line.strip('|').split('|')] for line in lines if line.startswith('|')
        )
        grid[task] = {row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in body}
    return grid


@pytest.mark.parametrize('which', ['two', pytest.param('all', marks=pytest.mark.slow)])
def test_parameters_are_what_the_command_counts(which: str, capsys: pytest.CaptureFixture) -> None:
    """Two backbones in `make test`; in `make test-all` what the command prints, to the letter."""
    if which == 'all':
        main([])
        assert capsys.readouterr().out in (REPO / 'docs/parameters.md').read_text()
        return
    backbones = ['ResNet-50', 'DeiT-S']
    grid = count_grid(REPO / 'configs', {name: BACKBONES[name] for name in backbones})
    for task, rows in documented().items():
        assert set(rows) == set(grid[task])
        for tuning, cells in rows.items():
            for name in backbones:
                counted = grid[task][tuning][name]
                expected = '–' if counted is None else f'{counted[0] / 1e6:.2f} ({counted[0] / counted[1]:.1%})'
                assert cells[name] == expected, f'{task}, {tuning}, {name}'


def test_published_figures_stand_beside_those_of_the_tables() -> None:
    """Ratios and totals of the comparison, from this page's own tables."""
    text = (REPO / 'docs/parameters.md').read_text()
    grid = documented()

    def millions(task: str, tuning: str, backbone: str) -> float:
        return float(grid[task][tuning][backbone].split()[0])

    cls = 'Classification, 120 classes'
    for backbone, said in (('ResNet-101', '11.1 times'), ('ResNet-50', '| 6.2 times |')):
        times = millions(cls, 'full', backbone) / millions(cls, 'pro', backbone)
        assert f'{times:.1f} times' in said and said in text
    full, pro = ((millions(cls, t, 'DeiT-B'), millions(cls, t, 'DeiT-S')) for t in ('full', 'pro'))
    said_times = re.search(r'\*\*([\d.]+) and ([\d.]+) times\*\*', text)
    assert said_times and [float(t) for t in said_times.groups()] == pytest.approx(
        [f / p for f, p in zip(full, pro, strict=True)], rel=0.02
    )
    fcn = 'FCN, ADE20K'
    fewer = 100 * (1 - millions(fcn, 'pro', 'ResNet-50') / millions(fcn, 'partial', 'ResNet-50'))
    assert f'{fewer:.1f} % fewer |' in text
    # published totals, in millions
    assert [millions(task, 'full', 'ResNet-50') for task in list(grid)[1:]] == pytest.approx(
        [77.32, 80.26, 49.60, 66.52], rel=0.005
    )
    assert [millions(task, 'pro', 'ResNet-50') for task in list(grid)[1:]] == pytest.approx(
        [57.43, 60.36, 29.69, 46.60], rel=0.005
    )


CACHED = {
    'EfficientNet-Lite0': (dict(type='timm', model_name='tf_efficientnet_lite0'), 4),
    'ResNet-50 with a neck that pools': (dict(type='mmpretrain.ResNet', depth=50), 3),
    'ViT-S': (dict(type='timm', model_name='vit_small_patch16_224'), 3),
}


@pytest.mark.slow
@pytest.mark.parametrize('name', CACHED)
def test_sizes_of_cached_features(name: str) -> None:
    cfg, last = CACHED[name]
    text = (REPO / 'docs/performance.md').read_text()
    (row,) = [line for line in text.splitlines() if line.startswith(f'| {name} |') and line.count('|') == 6]
    found = []
    for tuning in ('linear', dict(type='pro', prompt_stages=(last,)), dict(type='partial', k=1), 'ladder'):
        net, image = TunedBackbone(cfg, tuning, allow_random_backbone=True).train(), torch.zeros(1, 3, 224, 224)
        kilobytes = sum(tensor.nbytes for tensor in find_frozen_part(net, image).compute(net, image)) / 1e3
        found.append(f'{kilobytes:,.0f}' if kilobytes > 2 else f'{kilobytes:.1f}')
    assert row.split(' | ')[1:] == [*found[:-1], f'{found[-1]} |']


def test_chosen_rates() -> None:
    """docs/choosing.md names the rates that the studies chose."""
    page = (REPO / 'docs/choosing.md').read_text()
    table = re.search(r'\| tuning \| CIFAR-10 .*?\n\n', page, re.DOTALL)
    assert table is not None
    for row in table[0].strip().splitlines()[2:]:
        tuning, *rates = (cell.strip(' `') for cell in row.strip('|').split('|'))
        for study, rate in zip(('lite', 'bccd', 'camvid'), rates, strict=True):
            with (REPO / f'docs/evidence/{study}.csv').open() as file:
                runs = [run for run in csv.DictReader(file) if run['tuning'] == tuning and run['chosen'] == 'True']
            assert {float(run['learning_rate']) for run in runs} == {float(rate)}, (tuning, study)


FILLED = 'evidence_toys.md'  # its template has short lines; filling in the results makes some of them longer
PAGES = sorted(f'docs/{path.relative_to(REPO / "docs")}' for path in (REPO / 'docs').rglob('*.md'))
PAGES = [name for name in PAGES if not name.startswith(('docs/evidence/', 'docs/reference/')) and FILLED not in name]


@pytest.mark.parametrize('name', ['README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', *PAGES])
def test_lines_are_short(name: str) -> None:
    """Tables, links and what programs print may be longer."""
    prose = re.sub(r'```.*?```', '', (REPO / name).read_text(), flags=re.DOTALL)
    long = [line for line in prose.splitlines() if len(line) > 100 and not line.startswith('|') and '](' not in line]
    assert not long, long


def test_readme_counts_the_tunings() -> None:
    TUNINGS.import_from_location()
    own = [cls for cls in TUNINGS.module_dict.values() if cls.__module__.startswith('protuning_mm.')]
    assert f'**{len(own)} tunings**' in (REPO / 'README.md').read_text()
