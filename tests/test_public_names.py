"""What ``import protuning_mm`` offers, and a plain PyTorch loop with it."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import protuning_mm
from protuning_mm import (
    TunedBackbone,
    count_parameters,
    load_delta,
    print_trainable_parameters,
    save_delta,
)
from protuning_mm.weights import CheckpointError
from tests.plain import assert_identical, relative_error

CFG = dict(type='timm', model_name='resnet18', channels=(8, 8, 16, 16), stem_width=4)


@pytest.mark.parametrize('name', protuning_mm.__all__)
def test_is_there_and_says_what_it_is(name: str) -> None:
    value = getattr(protuning_mm, name)
    assert name in dir(protuning_mm)
    if name not in ('__version__', 'TUNINGS'):
        assert value.__doc__.splitlines()[0].endswith('.')


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'TunedBackbon'"):
        protuning_mm.TunedBackbon  # noqa: B018


def backbone(base: Path, seed: int) -> TunedBackbone:
    torch.manual_seed(seed)
    made = TunedBackbone(CFG, tuning='lora', init_cfg=dict(type='Pretrained', checkpoint=str(base)))
    made.init_weights()
    return made


def test_twenty_steps_saved_loaded_and_merged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = tmp_path / 'base.pth'
    torch.manual_seed(0)
    torch.save(TunedBackbone(CFG, tuning='linear', allow_random_backbone=True).plain.state_dict(), base)
    net, head = backbone(base, 1), torch.nn.Linear(16, 3)
    images, labels = torch.randn(8, 3, 64, 64), torch.arange(8) % 3
    trained = [p for p in (*net.parameters(), *head.parameters()) if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    losses = []
    for _ in range(20):
        loss = F.cross_entropy(head(net.train()(images)[0]), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < losses[0]
    print_trainable_parameters(net)
    assert 'total' in capsys.readouterr().out
    assert count_parameters(net).trained == sum(p.numel() for p in net.parameters() if p.requires_grad)

    save_delta(net, tmp_path / 'task.pth', classes=('a', 'b', 'c'))
    assert (tmp_path / 'task.pth').stat().st_size < base.stat().st_size
    other = backbone(base, 2)
    assert load_delta(other, tmp_path / 'task.pth') == dict(classes=('a', 'b', 'c'))
    assert_identical(other.state_dict(), net.state_dict())

    merged = other.merge().eval()
    assert not hasattr(merged, 'tunings')
    with torch.no_grad():
        assert relative_error(merged(images), net.eval()(images)[0]) < 1e-5


def test_what_cannot_be_saved_or_loaded(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match='Linear contains no TunedBackbone'):
        save_delta(torch.nn.Linear(2, 2), tmp_path / 'x.pth')
    with pytest.raises(CheckpointError, match='are random: no checkpoint contains them'):
        save_delta(TunedBackbone(CFG, tuning='lora'), tmp_path / 'x.pth')
    torch.save(dict(state_dict={}), tmp_path / 'whole.pth')
    with pytest.raises(CheckpointError, match='is not a delta'):
        load_delta(TunedBackbone(CFG, tuning='lora'), tmp_path / 'whole.pth')
    assert not (tmp_path / 'x.pth').exists()


def test_importing_takes_no_command_and_no_serving_with_it() -> None:
    code = 'import sys, protuning_mm; print(*sys.modules)'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    heavy = ('protuning_mm.cli', 'protuning_mm.multitask', 'protuning_mm.doctor', 'matplotlib.pyplot', 'protuning_lab')
    assert not [name for name in done.stdout.split() if name.startswith(heavy)]
