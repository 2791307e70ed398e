"""Real runs in one process: the toy classifier with mmengine's runner and mmpretrain's data sets."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.visualization import Visualizer

from protuning_lab.study import main
from protuning_lab.study.configs import ConfigBuilder
from protuning_lab.study.grid import Cell, list_groups
from protuning_lab.study.job import execute_job
from protuning_lab.study.run_loop import make_job
from protuning_lab.study.study_file import read_study
from protuning_mm import load_delta
from tests.test_lab.test_study.toy import write_study

STUDY = """
work_dir = {work_dir!r}
config = 'base.py'
axes = dict(tuning=dict(linear={{}}, bias={{'model.backbone.tuning.type': 'bias'}}))
learning_rate = dict(values=(0.01, 0.1), seeds=(0,), metric='accuracy/top1')
seeds = (0, 1)
test = dict(clean={{}}, half={{'test_dataloader.dataset.data_prefix': 'train'}})
"""
SAME = ('val', 'test', 'trained_weights', 'config_hash', 'trained_parameters', 'share', 'peak_memory_mib')


def results(folder: Path) -> dict[str, dict[str, Any]]:
    cells = folder / 'cells'
    return {str(p.parent.relative_to(cells)): json.loads(p.read_text()) for p in sorted(cells.rglob('result.json'))}


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that was run."""
    found = tmp_path_factory.mktemp('study')
    main([str(write_study(found, STUDY))])
    return found


def test_study_writes_all_results(folder: Path) -> None:
    work_dir = folder / 'work'
    for name in ('results.csv', 'tables.md', 'index.html', 'parameters-clean.png', 'parameters-half.svg'):
        assert (work_dir / name).stat().st_size > 500, name
    found = results(work_dir)
    assert len(found) == 2 * (2 + 1)
    linear = found['tuning=linear/lr=0.1,seed=0']
    assert linear['trained_parameters'] == 3 * 32 + 3  # the head
    assert set(linear['test']) == {'clean', 'half'}
    assert linear['steps'] == 4 and linear['step_seconds'] > 0
    bias = found['tuning=bias/lr=0.1,seed=0']
    assert bias['trained_parameters'] > 99 and bias['peak_memory_mib'] > linear['peak_memory_mib'] > 0.1
    assert not [p for p in (work_dir / 'cells').rglob('*') if p.suffix in ('.pth', '.py')]


def test_run_equals_mmengines_runner(folder: Path, tmp_path: Path) -> None:
    """mmengine's own Runner, called as in train.py, gives bit-identical metrics."""
    cfg = Config.fromfile(folder / 'base.py')
    cfg.merge_from_dict({'optim_wrapper.optimizer.lr': 0.1, 'randomness': dict(seed=0)})
    cfg.train_cfg.val_interval = 2
    cfg.work_dir = str(tmp_path)
    torch.set_num_threads(1)
    runner = Runner.from_cfg(cfg)
    runner.train()
    found = results(folder / 'work')['tuning=linear/lr=0.1,seed=0']
    assert runner.message_hub.get_scalar('val/accuracy/top1').current() == found['val']['accuracy/top1']
    assert runner.test()['accuracy/top1'] == found['test']['clean']['accuracy/top1']


def test_result_does_not_depend_on_earlier_runs_of_the_process(folder: Path, tmp_path: Path) -> None:
    """The run was the sixth in its process; here it runs first, and again after a run with other global settings."""
    study = read_study(folder / 'toy.py')
    group = list_groups(study)[1]
    whole = results(folder / 'work')
    last = next(name for name in whole if name.startswith(f'{group.name}/') and 'seed=1' in name)
    rate = float(re.findall('lr=([^,]+)', last)[0])
    torch.manual_seed(123)
    for name in ('first', 'second'):
        job = make_job(Cell(group, rate, 1), ConfigBuilder(study), tmp_path / name)
        outcome = execute_job(job)
        assert outcome.result is not None, outcome.error
        assert {k: outcome.result[k] for k in SAME} == {k: whole[last][k] for k in SAME}
        other = ConfigBuilder(study, {'randomness.deterministic': True, 'train_cfg.max_epochs': 1})
        assert execute_job(make_job(Cell(group, 0.5, 0), other, tmp_path / 'other')).error is None


def test_run_restores_global_state(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, 'benchmark', False)  # a runner of an earlier test may have set it
    study = read_study(folder / 'toy.py')
    DefaultScope.get_instance('mine', scope_name='mmengine')
    hub = MessageHub.get_instance('mine')
    before = [dict(each._instance_dict) for each in (MMLogger, MessageHub, Visualizer, DefaultScope)]
    options = {'randomness': dict(deterministic=True), 'env_cfg': dict(cudnn_benchmark=True)}
    handlers = len(logging._handlerList)
    for _ in range(2):
        job = make_job(Cell(list_groups(study)[0], 0.1, 0), ConfigBuilder(study, options), tmp_path)
        assert execute_job(job).error is None
    assert [dict(each._instance_dict) for each in (MMLogger, MessageHub, Visualizer, DefaultScope)] == before
    assert MessageHub.get_current_instance() is hub
    assert not torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.benchmark
    assert len(logging._handlerList) <= handlers + 2


def test_resume_and_config_hash(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(folder / 'toy.py')
    with pytest.raises(SystemExit, match='contains results: continue with --resume'):
        main([path])
    times = {p: p.stat().st_mtime_ns for p in (folder / 'work' / 'cells').rglob('result.json')}
    main([path, '--resume'])
    assert {p: p.stat().st_mtime_ns for p in times} == times
    capsys.readouterr()
    main([path, '--resume', '--dry-run', '--only', 'tuning=bias', '--cfg-options', 'train_cfg.max_epochs=1'])
    printed = capsys.readouterr().out
    assert printed.count('its result was made with another config; it will run again') == 3
    assert '1 groups, 3 runs: 0 done, 3 to run' in printed


def test_dry_run_prints_remaining_runs_and_time(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(folder / 'toy.py')
    main([path, '--dry-run', '--work-dir', str(folder / 'new')])
    printed = capsys.readouterr().out
    assert not (folder / 'new').exists()
    assert len(re.findall('^to run ', printed, re.MULTILINE)) == 4
    assert printed.count('/ at the chosen candidate: seeds 1') == 2
    assert '2 groups, 6 runs: 0 done, 6 to run, no finished run to estimate the time from' in printed
    main([path, '--dry-run', '--jobs', '2'])
    assert '2 groups, 6 runs: 6 done, 0 to run, about 0 s with --jobs 2' in capsys.readouterr().out


def test_failed_run_does_not_stop_the_others(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The head of one axis value does not fit, so its runs fail with a traceback; --resume tries them again."""
    broken = STUDY.replace("'model.backbone.tuning.type': 'bias'", "'model.head.in_channels': 31")
    broken = '\n'.join(line for line in broken.split('\n') if 'learning_rate' not in line)
    path = str(write_study(folder, broken).rename(folder / 'broken.py'))
    write_study(folder, STUDY)
    work_dir = ['--work-dir', str(tmp_path / 'work')]
    with pytest.raises(SystemExit) as stopped:
        main([path, *work_dir])
    assert stopped.value.code == 1
    printed = capsys.readouterr().out
    errors = sorted((tmp_path / 'work').rglob('error.txt'))
    assert len(errors) == 2 and all('tuning=bias' in str(error) for error in errors)
    assert 'Traceback' in errors[0].read_text()
    assert f'traceback: {errors[0]}' in printed and '2 of 4 runs done, 2 failed' in printed
    assert set(results(tmp_path / 'work')) == {'tuning=linear/seed=0', 'tuning=linear/seed=1'}
    assert '## Failed runs' in (tmp_path / 'work' / 'tables.md').read_text()
    with pytest.raises(SystemExit):
        main([path, *work_dir, '--resume', '--only', 'tuning=bias'])
    assert '0 of 2 runs done, 2 failed' in capsys.readouterr().out


def test_only_keeps_the_other_rows_of_the_tables(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / 'work/results.csv').read_text()
    assert ',bias,' not in before.splitlines()[0] and '\nbias,' in before and '\nlinear,' in before
    main([str(folder / 'toy.py'), '--resume', '--only', 'tuning=bias'])
    assert (folder / 'work/results.csv').read_text() == before
    (folder / 'work/cells/tuning=linear/lr=0.1,seed=0/result.json').rename(folder / 'kept.json')
    main([str(folder / 'toy.py'), '--resume', '--only', 'tuning=bias'])  # no run of this part is missing
    assert 'still missing' not in capsys.readouterr().out
    (folder / 'kept.json').rename(folder / 'work/cells/tuning=linear/lr=0.1,seed=0/result.json')


NO_FLIP = {f'{loader}_dataloader.dataset.pipeline.1.prob': 0.0 for loader in ('val', 'test')}
AS_CONFIGURED = """
work_dir = {work_dir!r}
config = 'base.py'
options = {{'train_cfg.val_interval': 1, 'train_cfg.max_epochs': 3}}
axes = dict(tuning=dict(linear={{'default_hooks.checkpoint': dict(type='CheckpointHook', interval=3)}}))
validate = 'as configured'
keep_checkpoints = keep_deltas = True
"""


def test_validate_as_configured_and_keep_checkpoints(folder: Path, tmp_path: Path) -> None:
    """Validate by the config's interval; mmengine's runner gets the same test result from the saved checkpoint."""
    path = write_study(folder, AS_CONFIGURED).rename(folder / 'as_configured.py')
    write_study(folder, STUDY)
    options = [f'{key}={value}' for key, value in NO_FLIP.items()]
    main([str(path), '--work-dir', str(tmp_path / 'work'), '--cfg-options', *options])
    (found,) = results(tmp_path / 'work').values()
    assert [each['step'] for each in found['validations']] == [2, 4]
    (saved,) = (tmp_path / 'work').rglob('epoch_3.pth')
    cfg = Config.fromfile(folder / 'base.py')
    cfg.merge_from_dict(dict(NO_FLIP, load_from=str(saved), work_dir=str(tmp_path / 'plain')))
    runner = Runner.from_cfg(cfg)
    assert runner.test()['accuracy/top1'] == found['test']['test']['accuracy/top1']
    assert runner.val()['accuracy/top1'] == found['val']['accuracy/top1']
    trained = {name: tensor.clone() for name, tensor in runner.model.head.state_dict().items()}
    torch.nn.init.zeros_(runner.model.head.fc.weight)
    (delta,) = (tmp_path / 'work').rglob('delta.pth')
    load_delta(runner.model, delta)
    assert all(torch.equal(trained[name], tensor) for name, tensor in runner.model.head.state_dict().items())


def test_search_with_options_of_its_own_keeps_no_deltas(tmp_path: Path) -> None:
    search = ", options={'train_dataloader.dataset.data_prefix': 'train'})"
    text = STUDY.replace(
        "metric='accuracy/top1')", "metric='accuracy/top1'" + search.replace('{', '{{').replace('}', '}}')
    )
    main([str(write_study(tmp_path, f'{text}keep_deltas = True')), '--only', 'tuning=linear'])
    names = sorted(results(tmp_path / 'work'))
    kept = [str(path.parent.relative_to(tmp_path / 'work/cells')) for path in (tmp_path / 'work').rglob('delta.pth')]
    assert sorted(kept) == [name for name in names if 'search' not in name] and len(names) == len(kept) + 2 > 2


def test_missing_metric_stops_the_study_after_the_first_run(folder: Path, tmp_path: Path) -> None:
    path = write_study(folder, STUDY.replace('accuracy/top1', 'accuracy/top2')).rename(folder / 'metric.py')
    write_study(folder, STUDY)
    with pytest.raises(SystemExit, match=r"learning_rate.metric='accuracy/top2': the validation reports accuracy/top1"):
        main([str(path), '--work-dir', str(tmp_path / 'work')])
    assert len(results(tmp_path / 'work')) == 1


def test_validation_on_test_data_raises_before_anything_runs(folder: Path, tmp_path: Path) -> None:
    work_dir = ['--work-dir', str(tmp_path / 'work')]
    with pytest.raises(SystemExit, match='are the same data'):
        main([str(folder / 'toy.py'), *work_dir, '--cfg-options', 'val_dataloader.dataset.data_prefix=test'])
    assert not (tmp_path / 'work').exists()
