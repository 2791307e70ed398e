"""The loss on the validation images."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch.nn import functional as F

from protuning_mm.cli.train import main as train
from protuning_mm.engine.errors import ConfigError
from protuning_mm.engine.hooks.val_loss_hook import ValLossHook, make_loader_config
from tests.mini import write_config

SEED = "\nrandomness = dict(seed=0)\nvisualizer = dict(name='{}')\n"
HOOK = "\ncustom_hooks = [dict(type='protuning_mm.ValLossHook')]" + SEED
BEST = "default_hooks = dict(checkpoint=dict(save_best='val_loss', by_epoch={by_epoch}, interval=1))\n"


def scalars(folder: Path) -> list[dict[str, Any]]:
    (path,) = folder.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize('kind', ['cascade', 'fcn', 'upernet'])
def test_is_logged_and_selects_the_best_checkpoint(tmp_path: Path, kind: str) -> None:
    config = write_config(kind, tmp_path, extra=HOOK.format(kind) + BEST.format(by_epoch=kind == 'cascade'))
    train([str(config), '--work-dir', str(tmp_path / 'run')])
    found = [line['val_loss'] for line in scalars(tmp_path / 'run') if 'val_loss' in line]
    assert found and all(0 < value < 1000 for value in found)
    assert list((tmp_path / 'run').glob('best_val_loss_*.pth'))


def test_is_the_loss_of_the_images_and_changes_nothing_else(tmp_path: Path) -> None:
    """Against a loop of our own over the validation images, whose maps have the size of the images."""
    plain = write_config('fcn', tmp_path, extra=SEED.format('plain'))
    train([str(plain), '--work-dir', str(tmp_path / 'plain')])
    config = write_config('fcn', tmp_path, extra=HOOK.format('with_loss'))
    train([str(config), '--work-dir', str(tmp_path / 'run')])
    one, other = (torch.load(tmp_path / name / 'iter_2.pth', weights_only=False) for name in ('plain', 'run'))
    assert all(torch.equal(tensor, one['state_dict'][key]) for key, tensor in other['state_dict'].items())

    cfg = Config.fromfile(next((tmp_path / 'run').glob('*.py')))
    cfg.load_from, cfg.work_dir = str(tmp_path / 'run/iter_2.pth'), str(tmp_path / 'again')
    runner = Runner.from_cfg(cfg)
    runner.load_or_resume()
    losses = []
    for batch in Runner.build_dataloader(make_loader_config(cfg.val_dataloader)):
        data = runner.model.data_preprocessor(batch, True)
        target = torch.stack([sample.gt_sem_seg.data.squeeze(0) for sample in data['data_samples']])
        with torch.no_grad():
            features = runner.model.eval().extract_feat(data['inputs'])
            for head, weight in ((runner.model.decode_head, 1.0), (runner.model.auxiliary_head, 0.4)):
                up = F.interpolate(head(features), size=target.shape[1:], mode='bilinear', align_corners=False)
                losses.append(
                    weight * float(F.cross_entropy(up, target, ignore_index=255, reduction='sum') / target.numel())
                )
    logged = [line['val_loss'] for line in scalars(tmp_path / 'run') if 'val_loss' in line][-1]
    assert logged == pytest.approx(sum(losses) / (len(losses) / 2), rel=1e-4)  # one image a batch


def test_validation_data_without_what_training_uses(tmp_path: Path) -> None:
    config = write_config('htc', tmp_path, extra=HOOK.format('htc'))
    with pytest.raises(SystemExit, match='ValLossHook: the loss of a validation batch cannot be computed .*gt_sem_seg'):
        train([str(config), '--work-dir', str(tmp_path / 'run')])


def test_annotations_are_loaded_before_resizing() -> None:
    pipeline = [dict(type=name) for name in ('LoadImageFromFile', 'Resize', 'LoadAnnotations', 'PackDetInputs')]
    loader = dict(dataset=dict(type='RepeatDataset', dataset=dict(type='CocoDataset', pipeline=pipeline)))
    found = make_loader_config(loader)['dataset']['dataset']['pipeline']
    assert [step['type'] for step in found] == ['LoadImageFromFile', 'LoadAnnotations', 'Resize', 'PackDetInputs']
    assert [step['type'] for step in pipeline][1] == 'Resize'


@pytest.mark.parametrize('number', [0, 2.5, '3'])
def test_max_batches_that_is_none(number: object) -> None:
    with pytest.raises(ConfigError, match='max_batches=.* must be a positive integer'):
        ValLossHook(number)  # type: ignore[arg-type]
