"""Early stopping: a resumed run ends where the uninterrupted one does."""

from pathlib import Path
from typing import Any

import pytest
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.logging import MessageHub

from tests.test_engine.test_exact_resume_hook import loader, run
from tests.tiny import Weights

SCORES = (0.01, 0.03, 0.02, 0.025, 0.05, 0.06)  # of the epochs: none after the second is better within two more
ITERATIONS = 3  # of an epoch


class Scripted(BaseMetric):
    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.append(0)

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        # the number of the last iteration, or after a resume of the next one
        epochs = round(MessageHub.get_current_instance().get_info('iter') / ITERATIONS)
        return dict(score=SCORES[epochs - 1])


def train(folder: Path, weights: Weights, stop: dict[str, Any] | None = None, **kwargs: Any) -> str:
    """Train for at most six epochs; return the name of the last checkpoint."""
    hook = dict(type='protuning_mm.EarlyStoppingHook', monitor='score', rule='greater', patience=2, **(stop or {}))
    validation = dict(
        val_dataloader=loader(sampler=dict(type='DefaultSampler', shuffle=False)),
        val_cfg={},
        val_evaluator=Evaluator(Scripted()),
    )
    settings = dict(epochs=6, custom_hooks=[hook], checkpoint=dict(save_best='score', rule='greater'), **validation)
    run(folder, weights, **settings, **kwargs)
    return Path((folder / 'last_checkpoint').read_text().strip()).name


def test_stops_after_patience(tmp_path: Path, weights: Weights) -> None:
    assert train(tmp_path, weights) == 'epoch_4.pth'


@pytest.mark.parametrize('epoch', [1, 2, 3])
def test_resumed_run_stops_where_the_whole_one_does(epoch: int, tmp_path: Path, weights: Weights) -> None:
    train(tmp_path / 'whole', weights)
    start = dict(load_from=str(tmp_path / f'whole/epoch_{epoch}.pth'), resume=True, start=1)
    assert train(tmp_path / 'resumed', weights, **start) == 'epoch_4.pth'
    assert 'but not exactly' not in next((tmp_path / 'resumed').rglob('*.log')).read_text()


def test_small_gains_count(tmp_path: Path, weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics are from 0 to 1; mmengine's least difference is 0.1."""
    monkeypatch.setattr(f'{__name__}.SCORES', (0.2, 0.25, 0.29, 0.31, 0.32, 0.33))
    assert train(tmp_path, weights) == 'epoch_6.pth'


def test_a_stopped_run_is_not_continued(tmp_path: Path, weights: Weights) -> None:
    train(tmp_path / 'whole', weights)
    start = dict(load_from=str(tmp_path / 'whole/epoch_4.pth'), resume=True, start=1)
    (tmp_path / 'resumed').mkdir()
    (tmp_path / 'resumed/last_checkpoint').write_text('epoch_4.pth')
    assert train(tmp_path / 'resumed', weights, **start) == 'epoch_4.pth'


def test_a_run_that_stopped_at_its_best_is_not_continued(tmp_path: Path, weights: Weights) -> None:
    """The best checkpoint is saved after the validation, which is not repeated."""
    stop = dict(stopping_threshold=0.029, min_delta=0.0)
    train(tmp_path / 'whole', weights, stop=stop)
    assert not (tmp_path / 'whole/epoch_3.pth').exists()
    (tmp_path / 'resumed').mkdir()
    (tmp_path / 'resumed/last_checkpoint').write_text('epoch_2.pth')
    start = dict(load_from=str(tmp_path / 'whole/epoch_2.pth'), resume=True, start=1)
    assert train(tmp_path / 'resumed', weights, stop=stop, **start) == 'epoch_2.pth'
    assert 'the run had stopped early' in next((tmp_path / 'resumed').rglob('*.log')).read_text()


def test_checkpoint_without_the_state_is_named(tmp_path: Path, weights: Weights) -> None:
    run(tmp_path / 'whole', weights, epochs=1)
    start = dict(load_from=str(tmp_path / 'whole/epoch_1.pth'), resume=True, start=1)
    train(tmp_path / 'resumed', weights, **start)
    log = next((tmp_path / 'resumed').rglob('*.log')).read_text()
    assert "early stopping starts to count again: the checkpoint has no scores of 'score'" in log
