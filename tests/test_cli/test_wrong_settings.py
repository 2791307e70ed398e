"""Wrong settings of a backbone or tuning: train.py and the doctor name them and what would be right."""

from pathlib import Path

import pytest

from protuning_mm.cli import train as train_tool
from protuning_mm.cli.doctor import diagnose, parse_args
from tests.mini import write_config

TIMM = """
model['pretrained'] = None
model['backbone'] = dict(
    _delete_=True, type='protuning_mm.TunedBackbone', allow_random_backbone=True,
    backbone=dict(type='timm', model_name='resnet18', {}))
"""
PLAIN = """
model['pretrained'] = None
model['backbone'] = dict(
    _delete_=True, type='protuning_mm.TunedBackbone', allow_random_backbone=True, backbone={})
"""
# description -> (code to append, options, texts in the message)
WRONG: dict[str, tuple[str, list[str], list[str]]] = {
    'a typo in the tuning': (
        '', ['model.backbone.tuning=lroa'], ["'lroa'", 'type must be one of', 'lora'],
    ),
    "a typo in a tuning's argument": (
        '', ['model.backbone.tuning.type=lora', 'model.backbone.tuning.ranks=2'], ['takes no ranks', 'rank, alpha'],
    ),
    'a typo in the prompt': (
        '', ['model.backbone.prompt.kernel=3'], ['takes no kernel', 'kernel_size'],
    ),
    'a tuning that is a number': ('', ['model.backbone.tuning=5'], ['tuning=5', 'a name']),
    'arch of a ResNet': (
        '', ['model.backbone.arch=resnet50'], ["mmseg.ResNet takes no 'arch'", 'depth=50', 'TunedBackbone'],
    ),
    "timm's numbering": (
        TIMM.format('out_indices=(1, 2, 3, 4)'), [], ['=(1, 2, 3, 4)', 'from 0 to 3', 'out_indices=(0, 1, 2, 3)'],
    ),
    'one number': (TIMM.format('out_indices=3'), [], ['out_indices=3', 'from 0 to 3']),
    "an argument that timm's model lacks": (TIMM.format('depht=3'), [], ["timm's resnet18 takes no 'depht'"]),
    'a model that timm lacks': (
        TIMM.format('').replace('resnet18', 'resnet181'), [], ["model_name='resnet181'", 'no such model'],
    ),
    'a class that the host lacks': (PLAIN.format("dict(type='RestNet')"), [], ["type='RestNet'", 'mmseg has no class']),
    'an argument that is missing': (PLAIN.format("dict(type='ResNet')"), [], ["mmseg.ResNet needs 'depth'"]),
    'no dict': (PLAIN.format("'ResNet'"), [], ["backbone='ResNet'", "dict(type='ResNet', depth=50)"]),
}  # fmt: skip


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('settings')
    write_config('upernet', path)
    return path


QUICK = ('a typo in the tuning', 'arch of a ResNet', "timm's numbering")


@pytest.mark.parametrize('name', [w if w in QUICK else pytest.param(w, marks=pytest.mark.slow) for w in WRONG])
def test_error_is_one_sentence(name: str, folder: Path) -> None:
    extra, options, texts = WRONG[name]
    config = folder / 'wrong.py'
    config.write_text((folder / 'tiny_upernet.py').read_text() + extra)
    flags = ['--cfg-options', *options] if options else []
    with pytest.raises(SystemExit) as ended:
        train_tool.main([str(config), '--work-dir', str(folder / 'run'), *flags])
    message = str(ended.value)
    assert message.startswith('error: ') and len(message.splitlines()) == 1
    assert all(part in message for part in texts), message
    (found,) = (f for f in diagnose(parse_args([str(config), '--no-step', *flags])).findings if f.level == 'error')
    assert all(part in found.found for part in texts), found
    assert not any(part in text for part in ('.py', '__init__') for text in (message, found.found))
