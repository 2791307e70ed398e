"""A resumed run removes only files of its own work dir; a copied work dir does not touch the original."""

import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.hooks import CheckpointHook as HostHook
from mmengine.runner import runner as mmengine_runner

from protuning_mm.engine import CheckpointHook
from protuning_mm.weights import CheckpointError
from protuning_mm.weights.resumed_files import restrict_to_own_files
from tests.tiny import TinyClassifier, Weights, runner, tuned_resnet

KINDS = ['protuning_mm.CheckpointHook', 'CheckpointHook']
TWO = dict(save_best=['coco/bbox', 'score'], rule='greater')


def run_of(weights: Weights, work_dir: Path, epochs: int, kind: str = KINDS[0], **kwargs: Any) -> None:
    best = dict(type=kind, interval=1, save_best='score', rule='greater', max_keep_ckpts=kwargs.pop('keep', 5))
    hooks = dict(checkpoint=best, tuning=dict(type='protuning_mm.TuningHook'))
    model = TinyClassifier(tuned_resnet(weights('mmdet', depth=18)))
    runner(model, work_dir, epochs=epochs, default_hooks=hooks, **kwargs).train()


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def edit(path: Path, **info: Any) -> None:
    """Rewrite a checkpoint with other entries in its message hub."""
    content = torch.load(path, weights_only=False)
    content['message_hub']['runtime_info'].update(info)
    torch.save(content, path)


@pytest.mark.parametrize('kind', KINDS)
def test_a_checkpoint_names_a_file_that_is_not_its_own(kind: str, weights: Weights, tmp_path: Path) -> None:
    """Validation improves, but the file that the checkpoint names as the best one is not removed."""
    run_of(weights, tmp_path / 'run', 1, kind)
    stays = tmp_path / 'elsewhere/best_score_epoch_1.pth'
    stays.mkdir(parents=True)
    (stays / 'photos').write_text('of ten years')
    edit(tmp_path / 'run/epoch_1.pth', best_ckpt=str(stays), best_score=0.0)
    run_of(weights, tmp_path / 'run', 2, kind, resume=True)
    assert (stays / 'photos').read_text() == 'of ten years'
    # the run's own file of that name is removed
    assert [p.name for p in (tmp_path / 'run').glob('best*')] == ['best_score_epoch_2.pth']


def test_a_checkpoint_names_old_best_files_that_are_not_its_own(weights: Weights, tmp_path: Path) -> None:
    """Of the files that a killed run was about to remove, only best checkpoints in the run's own folder are removed."""
    run_of(weights, tmp_path / 'run', 1)
    names = ['notes.txt', 'best_score.txt', 'best_other_epoch_1.pth', 'epoch_7.pth']
    for name in (*names, 'best_score_epoch_7.pth', '../best_score_epoch_8.pth'):
        (tmp_path / 'run' / name).write_text('mine')
    outdated = [*names, '../run', '..', '', 7, '../best_score_epoch_8.pth', 'best_score_epoch_7.pth']
    edit(tmp_path / 'run/epoch_1.pth', outdated_best=outdated)
    run_of(weights, tmp_path / 'run', 2, resume=True)
    assert [name for name in names if not (tmp_path / 'run' / name).exists()] == []
    assert (tmp_path / 'best_score_epoch_8.pth').exists() and not (tmp_path / 'run/best_score_epoch_7.pth').exists()


@pytest.mark.parametrize('kind', KINDS)
def test_a_copied_work_dir_leaves_the_original_alone(kind: str, weights: Weights, tmp_path: Path) -> None:
    """It resumes from its own checkpoint and removes its own best one; of a link, only the link."""
    run_of(weights, tmp_path / 'a', 1, kind, keep=1)
    shutil.copytree(tmp_path / 'a', tmp_path / 'b')
    best = tmp_path / 'b/best_score_epoch_1.pth'
    best.unlink()
    best.symlink_to(tmp_path / 'a/best_score_epoch_1.pth')
    before = contents(tmp_path / 'a')
    run_of(weights, tmp_path / 'b', 2, kind, keep=1, resume=True)
    assert contents(tmp_path / 'a') == before
    assert sorted(p.name for p in (tmp_path / 'b').glob('*.pth')) == ['best_score_epoch_2.pth', 'epoch_2.pth']


def test_steps_of_a_foreign_checkpoint(weights: Weights, tmp_path: Path) -> None:
    """A checkpoint from another folder names steps to remove, but the files here belong to another run."""
    run_of(weights, tmp_path / 'a', 1)
    (tmp_path / 'b').mkdir()
    for step in (7, 8, 9):
        (tmp_path / f'b/epoch_{step}.pth').write_text('mine')
    edit(tmp_path / 'a/epoch_1.pth', keep_ckpt_ids=[7, 8, 9, 1], outdated_ckpt_id=8)
    run_of(weights, tmp_path / 'b', 2, keep=1, resume=True, load_from=str(tmp_path / 'a/epoch_1.pth'))
    assert [(tmp_path / f'b/epoch_{step}.pth').read_text() for step in (7, 8, 9)] == ['mine'] * 3


def hub_after(info: dict[str, Any], folder: Path, hook: HostHook, resumed_from: str | None = None) -> dict[str, Any]:
    run = SimpleNamespace(message_hub=SimpleNamespace(runtime_info=info), hooks=[hook], work_dir=str(folder))
    restrict_to_own_files(run, resumed_from or str(folder / 'epoch_1.pth'))
    return info


@pytest.mark.parametrize(
    ('options', 'key', 'named', 'kept'),
    [
        ({}, 'best_ckpt', '/a/best_score_epoch_12.pth', True),
        ({}, 'best_ckpt', 'best_score_epoch_12.pth', True),
        ({}, 'best_ckpt', r'C:\runs\a\best_score_epoch_12.pth', True),
        ({}, 'best_ckpt', 's3://bucket/a/best_score_epoch_12.pth', True),
        (dict(by_epoch=False), 'best_ckpt', '/a/best_score_iter_12.pth', True),
        (dict(filename_tmpl='x{:03d}y.pth'), 'best_ckpt', '/a/best_score_x012y.pth', True),
        (dict(save_best='auto'), 'best_ckpt', '/a/best_coco_bbox_mAP_epoch_3.pth', True),
        (TWO, 'best_ckpt_coco/bbox', '/a/best_coco_bbox_epoch_3.pth', True),
        (TWO, 'best_ckpt_score', '/a/best_coco_bbox_epoch_3.pth', False),
        (TWO, 'best_ckpt', '/a/best_score_epoch_3.pth', False),
        (dict(save_best=None), 'best_ckpt', '/a/best_score_epoch_3.pth', False),
        ({}, 'best_ckpt', '/a/epoch_12.pth', False),
        ({}, 'best_ckpt', '/a/best_other_epoch_12.pth', False),
        ({}, 'best_ckpt', '/a/best_score_epoch_012.pth', False),
        ({}, 'best_ckpt', '/a/best_score_epoch_.pth', False),
        ({}, 'best_ckpt', '/a/best_score_epoch_1.pth/..', False),
        ({}, 'best_ckpt', '/a/best_score_epoch_1.pth/', False),
        ({}, 'best_ckpt', '..', False),
        (dict(save_best='auto'), 'best_ckpt', 'best__epoch_3.pth', False),
        (dict(save_best='auto'), 'best_ckpt', 'best_epoch_3.pth', False),
        ({}, 'best_ckpt', '/a/best_score_epoch_12.pth\0', False),
        ({}, 'best_ckpt', 'best_score_epoch_' + '9' * 6000 + '.pth', False),
        ({}, 'best_ckpt', None, False),
        ({}, 'best_ckpt', ['/a/best_score_epoch_12.pth'], False),
        ({}, 'best_ckpt_evil', '/a/best_score_epoch_12.pth', False),
    ],
)
def test_names_that_a_hook_gives(options: dict[str, Any], key: str, named: Any, kept: bool, tmp_path: Path) -> None:
    hook = CheckpointHook(**(dict(save_best='score', rule='greater') | options))
    name = str(named).replace('\\', '/').rpartition('/')[2]
    assert hub_after({key: named}, tmp_path, hook) == {key: f'{tmp_path}/{name}' if kept else None}
    # a checkpoint in another folder does not affect the files here
    assert hub_after({key: named}, tmp_path, hook, '/elsewhere/epoch_1.pth') == {key: None}


@given(st.lists(st.sampled_from(['best_score_epoch_', '12', '.pth', '..', *'1/\\\0x\n']), max_size=8))
@settings(max_examples=300, deadline=None)
def test_every_name_that_is_kept_is_a_file_of_the_folder(pieces: list[str]) -> None:
    hook = CheckpointHook(save_best='score', rule='greater')
    kept = hub_after(dict(best_ckpt=''.join(pieces)), Path('/runs/a'), hook)['best_ckpt']
    assert kept is None or re.fullmatch(r'/runs/a/best_score_epoch_[0-9]+\.pth', kept)


def test_folders_and_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = HostHook(save_best='score', rule='greater', out_dir=str(tmp_path / 'out'))
    own = tmp_path / 'out/run'
    own.mkdir(parents=True)
    (tmp_path / 'link').symlink_to(own)
    for resumed in (own / 'epoch_1.pth', tmp_path / 'link/epoch_1.pth', 'out/run/epoch_1.pth'):
        monkeypatch.chdir(tmp_path)
        info = dict(best_ckpt='/x/best_score_epoch_1.pth', keep_ckpt_ids=[1, '../../x', True, -1, 2.0, None, 3])
        info |= dict(outdated_ckpt_id='../x')
        got = hub_after(info, tmp_path / 'run', hook, str(resumed))
        expected = dict(best_ckpt=f'{own}/best_score_epoch_1.pth', keep_ckpt_ids=[1, 3], outdated_ckpt_id=None)
        assert got == expected and list(got) == list(expected)
    assert hub_after(dict(keep_ckpt_ids=3), own, HostHook()) == dict(keep_ckpt_ids=[])
    assert hub_after(dict(outdated_ckpt_id=3, keep_ckpt_ids=[4]), own, HostHook()) == dict(
        outdated_ckpt_id=3, keep_ckpt_ids=[4]
    )


def test_last_checkpoint(tmp_path: Path) -> None:
    """The run's own file has priority over the file in another folder that ``last_checkpoint`` names."""
    find, pointer = mmengine_runner.find_latest_checkpoint, tmp_path / 'last_checkpoint'
    assert find(str(tmp_path)) is None
    pointer.write_text('/somewhere/epoch_3.pth')
    assert find(str(tmp_path)) == '/somewhere/epoch_3.pth'  # an out_dir
    (tmp_path / 'epoch_3.pth').touch()
    assert find(str(tmp_path)) == os.path.join(tmp_path, 'epoch_3.pth')  # noqa: PTH118
    pointer.write_text('https://evil.org/epoch_4.pth')
    with pytest.raises(CheckpointError, match='evil.org.*--resume'):
        find(str(tmp_path))
