"""Selecting another tuning by one option or one dict, in the same way for every config of this package."""

import copy
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from protuning_lab.parameter_grid import no_memory
from protuning_lab.study.configs import apply_options
from protuning_mm import TuningError
from protuning_mm.cli.count_params import count_config
from protuning_mm.cli.count_params import parse_args as count_args
from protuning_mm.cli.run_config import load_config
from protuning_mm.cli.train import parse_args
from protuning_mm.tunings.build import build_tunings
from tests.mini import REPO
from tests.tiny import tuned_resnet

CONFIGS = sorted(
    path.relative_to(REPO / 'configs').as_posix()
    for path in (REPO / 'configs').glob('[!_]*/*.py')
    if 'finetune' not in path.name  # these have the host's own backbone
)
QUICK = (
    'cls/deit-b_adapter_stanford-dogs.py',  # TunedBackbone, a tuning with arguments
    'seg/upernet_r50_protune.py',  # ProTunedResNet: no tuning named
)
LORA = dict(type='lora', rank=8, alpha=2, targets=None)


def tunings(cfg: Config) -> list[dict[str, Any]]:
    """Return the settings of the tunings that a config's backbone builds."""
    return [tuning.settings for tuning in build_tunings(cfg.model.backbone.tuning)]


def by_options(path: Path, *options: str) -> Config:
    return load_config(parse_args([str(path), '--cfg-options', *options]))


@pytest.mark.parametrize('name', [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in CONFIGS])
def test_on_every_config(name: str, tmp_path: Path) -> None:
    """On the command line, in a config that inherits, and in a study, regardless of the config's tuning."""
    path, key = REPO / 'configs' / name, 'model.backbone.tuning'
    default, plain = [dict(type='lora', rank=4, alpha=4, targets=None)], Config.fromfile(path)
    assert tunings(by_options(path, f'{key}=lora')) == default
    assert tunings(by_options(path, f'{key}.type=lora')) == default
    for first in (f'{key}=lora', f'{key}.type=lora'):
        assert tunings(by_options(path, f'{key}.alpha=2', first, f'{key}.rank=8')) == [LORA]
    assert tunings(by_options(path, f'{key}=linear')) == [dict(type='linear')]
    tuning = 'dict(_delete_=True, type="lora", rank=8, alpha=2)'
    (tmp_path / 'mine.py').write_text(f'_base_ = {str(path)!r}\nmodel = dict(backbone=dict(tuning={tuning}))\n')
    assert tunings(Config.fromfile(tmp_path / 'mine.py')) == [LORA]
    for options in (
        {key: dict(type='lora', rank=8, alpha=2, _delete_=True)},
        {f'{key}.type': 'lora', f'{key}.rank': 8, f'{key}.alpha': 2},
        {key: 'lora', f'{key}.rank': 8, f'{key}.alpha': 2},
    ):
        cfg = copy.deepcopy(plain)
        apply_options(cfg, options, 'options')
        assert tunings(cfg) == [LORA]
    hosts = copy.deepcopy(plain)  # as the hosts' own tools apply options
    hosts.merge_from_dict({key: 'lora'})
    assert tunings(hosts) == default


def test_arguments_of_the_same_tuning_are_kept() -> None:
    path, kept = REPO / 'configs/cls/r50_lora_cifar100.py', [dict(type='lora', rank=8, alpha=4, targets=None)]
    assert tunings(by_options(path, 'model.backbone.tuning.rank=8')) == kept
    assert tunings(by_options(path, 'model.backbone.tuning.type=lora', 'model.backbone.tuning.rank=8')) == kept


def test_command_of_the_readme() -> None:
    """Both backbone classes get the parameters of LoRA, and no prompts."""
    for name in ('seg/fcn_r50_protune.py', 'seg/upernet_swin-s_protune.py'):
        args = count_args([str(REPO / 'configs' / name), '--cfg-options', 'model.backbone.tuning.type=lora'])
        with no_memory():
            parts = {part.name for part in count_config(args.configs[0], args.cfg_options).parts}
        assert 'backbone.lora' in parts and 'backbone.prompts' not in parts, parts


def test_tuning_with_arguments_of_another() -> None:
    """A config that inherits without _delete_ merges the arguments; the error says how to replace the tuning."""
    with pytest.raises(TuningError) as caught:
        tuned_resnet(tuning=dict(type='lora', variant=1, reduction=8))
    message = str(caught.value)
    assert 'lora takes no variant, reduction, but rank, alpha' in message
    assert "tuning=dict(_delete_=True, type='lora')" in message and 'model.backbone.tuning=lora' in message
