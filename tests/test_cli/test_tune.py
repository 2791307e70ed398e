"""The flag --tune on a config without this package."""

from pathlib import Path

import torch
from mmengine.config import Config

from protuning_mm.cli import test as test_tool
from protuning_mm.cli.train import main as train_main
from tests.mini import write_config


def test_trains_the_same_weights_as_a_config_that_names_the_tuning(tmp_path: Path) -> None:
    """The dumped config needs no flag."""
    ours = write_config('fcn', tmp_path, extra="\nrandomness = dict(seed=0)\nvisualizer = dict(name='ours')\n")
    plain = Config.fromfile(ours)
    for key in ('prompt_stages', 'prompt', 'allow_random_backbone'):
        plain.model.backbone.pop(key)
    plain.model.backbone.type = 'ResNetV1c'
    plain.model.backbone.pop('deep_stem')
    plain.optim_wrapper.pop('constructor')
    plain.custom_imports.imports.remove('protuning_mm')
    plain.default_hooks = dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1))
    plain.visualizer.name = 'plain'
    for key in [key for key in plain if key.startswith('protune')]:  # variables of the base config
        plain.pop(key)
    plain.dump(tmp_path / 'plain.py')
    assert 'protun' not in (tmp_path / 'plain.py').read_text()

    train_main([str(ours), '--work-dir', str(tmp_path / 'ours')])
    tuning = '{type: pro, ratio: 0.32, kernel_size: 5}'
    train_main([str(tmp_path / 'plain.py'), '--work-dir', str(tmp_path / 'tuned'), '--tune', tuning])
    one, other = (torch.load(tmp_path / name / 'iter_2.pth', weights_only=False) for name in ('ours', 'tuned'))
    assert any('prompts' in key for key in one['state_dict'])
    assert list(one['state_dict']) == list(other['state_dict'])
    for key, tensor in one['state_dict'].items():
        assert torch.equal(tensor, other['state_dict'][key]), key

    dumped = next((tmp_path / 'tuned').glob('*.py'))
    test_tool.main([str(dumped), str(tmp_path / 'tuned/iter_2.pth'), '--work-dir', str(tmp_path / 'tested')])
