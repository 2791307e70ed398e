"""A run on stored features ends, bit for bit, where the run on images ends."""

from pathlib import Path
from typing import Any

import mmcv.transforms.loading
import pytest
import torch

from protuning_mm.engine.feature_cache.store import FeatureStore
from tests.test_engine.test_feature_cache.small_run import (
    FLIPPED,
    LATE,
    TUNINGS,
    CountConvolutions,
    log,
    make_config,
    result,
    train,
)
from tests.test_engine.test_resume_grid import differing

ENDLESS = dict(
    train_cfg=dict(by_epoch=False, max_iters=6, val_interval=100),
    loader=dict(sampler=dict(type='InfiniteSampler', shuffle=True), drop_last=False),
)
BY_ITERATION = dict(type='protuning_mm.CheckpointHook', by_epoch=False, interval=2)


def saving_each(cfg: Any) -> Any:
    cfg.default_hooks.checkpoint = BY_ITERATION
    return cfg


@pytest.mark.parametrize('tuning', TUNINGS)
def test_each_tuning(tuning: str, files: Path, tmp_path: Path) -> None:
    one = train(make_config(files, tmp_path / 'images', TUNINGS[tuning], cache=False))
    other = train(make_config(files, tmp_path / 'features', TUNINGS[tuning]))
    assert differing(result(one), result(other)) == []
    assert 'steps equal those on the images bit for bit' in log(other)
    before = torch.load(files / 'base.pth')
    trained = one.model.state_dict()
    assert all(torch.equal(trained[f'backbone.{k}'], v) for k, v in before.items()) != (tuning == 'partial')
    assert 'cached features' not in log(one)


@pytest.mark.parametrize(('tuning', 'convolutions'), [('linear', 0), ('late', 3), ('partial', 5)])
def test_what_a_step_still_runs(tuning: str, convolutions: int, files: Path, tmp_path: Path) -> None:
    """None; the last prompt block; the last stage, whose second block is trained. Without the cache, all run."""
    counted = CountConvolutions()
    train(make_config(files, tmp_path / 'features', TUNINGS[tuning]), counted)
    assert counted.counts == [convolutions] * 6
    counted = CountConvolutions()
    train(make_config(files, tmp_path / 'images', TUNINGS[tuning], cache=False), counted)
    assert min(counted.counts) >= 20


def test_no_image_is_loaded_after_the_first_pass(
    files: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded: list[bytes] = []
    plain = mmcv.transforms.loading.mmcv.imfrombytes
    monkeypatch.setattr(
        mmcv.transforms.loading.mmcv, 'imfrombytes', lambda data, **kwargs: loaded.append(data) or plain(data, **kwargs)
    )
    train(make_config(files, tmp_path / 'one', cache=str(tmp_path / 'shared')))
    assert len(loaded) == 4 + 12  # the first batch is tried before
    loaded.clear()
    runner = train(make_config(files, tmp_path / 'two', cache=str(tmp_path / 'shared')))
    assert len(loaded) == 4 and 'are read from' in log(runner)


def test_iteration_based_run_and_wrappers(files: Path, tmp_path: Path) -> None:
    settings = dict(ENDLESS, data_repeats=2)
    one = train(saving_each(make_config(files, tmp_path / 'images', cache=False, **settings)))
    other = train(saving_each(make_config(files, tmp_path / 'features', **settings)))
    assert other.train_dataloader.dataset.dataset.indices_only is False  # inside RepeatDataset; images again
    assert differing(result(one), result(other)) == []
    ((folder, store),) = stores(tmp_path / 'features')
    assert folder.parent.name == 'cached_features' and len(store) == 12


@pytest.mark.parametrize('persistent', [False, pytest.param(True, marks=pytest.mark.slow)])  # torch ends them slowly
def test_worker_processes(persistent: bool, files: Path, tmp_path: Path) -> None:
    workers = dict(loader=dict(num_workers=1, persistent_workers=persistent))
    one = train(make_config(files, tmp_path / 'images', cache=False, **workers))
    other = train(make_config(files, tmp_path / 'features', **workers))
    assert differing(result(one), result(other)) == []


def test_a_worker_process_computes_the_same_draws(files: Path, tmp_path: Path) -> None:
    drawn = [
        train(make_config(files, tmp_path / str(number), cache=dict(draws=2), pipeline=FLIPPED, loader=loader))
        for number, loader in enumerate((dict(), dict(num_workers=1)))
    ]
    assert differing(result(drawn[0]), result(drawn[1])) == []


@pytest.mark.parametrize('settings', [dict(), ENDLESS], ids=['epochs', 'iterations'])
def test_resume(settings: dict[str, Any], files: Path, tmp_path: Path) -> None:
    """From the middle of an epoch, with features that are read, and that are computed again."""
    whole = train(saving_each(make_config(files, tmp_path / 'whole', **settings)))
    for name, cache in (('read', str(tmp_path / 'whole/cached_features')), ('computed', True)):
        cfg = saving_each(make_config(files, tmp_path / name, cache=cache, **settings))
        cfg.update(load_from=str(tmp_path / 'whole/iter_4.pth'), resume=True)
        resumed = train(cfg)
        assert differing(result(whole), result(resumed)) == []
        assert ('are read from' in log(resumed)) == (name == 'read')


def test_validation_gets_images(files: Path, tmp_path: Path) -> None:
    loader = dict(batch_size=3, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False))
    scores = []
    for cache in (False, True):
        cfg = make_config(files, tmp_path / str(cache), cache=cache)
        dataset = make_config(files, tmp_path / 'val', cache=False).train_dataloader.dataset
        cfg.update(val_dataloader=loader | dict(dataset=dataset), val_cfg=dict(), val_evaluator=dict(type='Accuracy'))
        runner = train(cfg)
        scores.append(runner.message_hub.get_scalar('val/accuracy/top1').data[0].tolist())
    assert scores[0] == scores[1] and len(scores[0]) == 2


def test_fixed_draws(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Epoch e uses draw e mod 2; the draws are the same in every run, and differ from each other."""
    rows: list[int] = []
    plain = FeatureStore.read
    monkeypatch.setattr(FeatureStore, 'read', lambda self, indices: rows.extend(indices) or plain(self, indices))
    cfg = make_config(files, tmp_path / 'one', cache=dict(draws=2), pipeline=FLIPPED)
    cfg.train_cfg.max_epochs = 3
    one = train(cfg)
    steps = rows[-36:]
    assert [sorted(steps[i : i + 12]) for i in (0, 12, 24)] == [[*range(12)], [*range(12, 24)], [*range(12)]]
    ((_, store),) = stores(tmp_path / 'one')
    features = store.read(range(24))[0]
    different = [i for i in range(12) if not torch.equal(features[i], features[12 + i])]
    assert 0 < len(different) < 12  # of two draws, half are flips of each other
    other = train(make_config(files, tmp_path / 'two', cache=dict(draws=2), pipeline=FLIPPED))
    assert torch.equal(next(stores(tmp_path / 'two'))[1].read(range(24))[0], features)
    assert 'bit for bit' in log(one) and 'bit for bit' in log(other)


def test_a_last_batch_of_another_size_is_mentioned(
    files: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from protuning_mm.engine.feature_cache.batches import TrainingBatches

    plain = TrainingBatches.compute

    def rounding(self: Any, part: Any, inputs: Any) -> Any:
        return [x * (1 + 1e-6 * (len(inputs) == 2)) for x in plain(self, part, inputs)]

    monkeypatch.setattr(TrainingBatches, 'compute', rounding)
    said = []
    for drop_last in (False, True):
        loader = dict(batch_size=5, drop_last=drop_last)
        runner = train(make_config(files, tmp_path / str(drop_last), LATE, loader=loader))
        said.append('The last batch of an epoch has 2 images' in log(runner))
    assert said == [True, False]


def stores(work_dir: Path) -> Any:
    return ((path.parent, FeatureStore(path.parent)) for path in sorted(work_dir.rglob('features.json')))
