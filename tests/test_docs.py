"""The docs' worked examples run as they are written, and their tables say what the code does."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from protuning_mm import TUNINGS, TunedBackbone, TuningError
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
    assert [s.channels for s in tuned.reading.stages] == [16, 32, 64]
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
    assert 'tiny_net.TinyNet cannot be read as stages: no reader' in done.stderr
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
    assert starts.startswith('yes') == TUNINGS.get(name).starts_plain
    family = next(f for f, t in CELLS if t == name)
    tuned = TunedBackbone(FAMILIES[family], dict(TUNING_CFGS[name]))
    try:
        tuned.merge()
        merged = True
    except TuningError:
        merged = False
    assert merges.startswith('yes') == merged
