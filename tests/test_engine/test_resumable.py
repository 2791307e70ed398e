"""``resume`` from a file that holds no training state, or one of another data set: told, without a KeyError."""

from pathlib import Path
from typing import Any

import pytest
import torch

from protuning_mm.weights import CheckpointError
from tests.test_engine.test_exact_resume_hook import BY_ITERATION, Augmented, loader, run
from tests.tiny import TinyClassifier, Weights, runner, tuned_resnet

HUB = dict(log_scalars={}, runtime_info={}, resumed_keys={})


@pytest.mark.parametrize(
    ('parts', 'said'),
    [
        (dict(), r'\(meta.epoch, meta.iter, message_hub.log_scalars, .*missing'),
        (dict(meta=dict(epoch=1)), 'meta.iter, message_hub'),
        (dict(meta=dict(epoch='1', iter=2), message_hub=HUB), r'\(meta.epoch: '),
        (dict(meta=dict(epoch=1, iter=-2), message_hub=HUB), r'\(meta.iter: '),
        (dict(meta=dict(epoch=1, iter=2), message_hub=HUB | dict(runtime_info=[])), r'\(message_hub.runtime_info: '),
        (dict(meta=dict(epoch=1, iter=2), message_hub=HUB, optimizer=[1]), r'\(optimizer: '),
        (dict(meta=dict(epoch=1, iter=2), message_hub=HUB, param_schedulers=3), r'\(param_schedulers: '),
    ],
)
def test_file_without_a_training_state(parts: dict[str, Any], said: str, tmp_path: Path, weights: Weights) -> None:
    model = TinyClassifier(tuned_resnet(weights('mmdet', depth=18)))
    torch.save(dict(state_dict=model.state_dict(), **parts), tmp_path / 'weights.pth')
    resumed = runner(model, tmp_path / 'run', load_from=str(tmp_path / 'weights.pth'), resume=True)
    with pytest.raises(CheckpointError, match=f'no training state to resume from .*{said}') as caught:
        resumed.load_or_resume()
    assert 'load_from without resume' in str(caught.value)


class Fewer(Augmented):
    def __len__(self) -> int:
        return 2


def test_data_set_that_has_become_smaller(tmp_path: Path, weights: Weights) -> None:
    """The place within the epoch is behind its end."""
    run(tmp_path / 'whole', weights, checkpoint=BY_ITERATION)
    start: dict[str, Any] = dict(load_from=str(tmp_path / 'whole/iter_2.pth'), resume=True)
    run(tmp_path / 'resumed', weights, train_dataloader=loader(dataset=Fewer()), **start)
    assert (
        'after 2 batches of an epoch, but an epoch has only 1'
        in next((tmp_path / 'resumed').rglob('*.log')).read_text()
    )
