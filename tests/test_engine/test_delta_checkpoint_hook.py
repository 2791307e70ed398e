"""DeltaCheckpointHook through real runs: CheckpointHook's options, what is in the files, how big they are, resuming."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from protuning_mm.weights import CheckpointError, FrozenWeightsError, load_checkpoint_file
from protuning_mm.weights.checksum import verify_checksum
from protuning_mm.weights.deltas import RECORD, DeltaRecord
from tests.plain import assert_identical, fill, plain_resnet, snapshot
from tests.tiny import TinyClassifier, Weights, runner, tuned_resnet

EMAS = ['ExponentialMovingAverage', 'StochasticWeightAverage', 'mmdet.ExpMomentumEMA']


def hooks(**kwargs: Any) -> dict[str, Any]:
    return dict(
        checkpoint=dict(type='protuning_mm.DeltaCheckpointHook', **{'interval': 1, **kwargs}),
        tuning=dict(type='protuning_mm.TuningHook'),
        audit=dict(type='protuning_mm.FrozenAuditHook'),
    )


def model(weights: Weights, **kwargs: Any) -> TinyClassifier:
    return TinyClassifier(tuned_resnet(weights('mmdet', depth=18), **kwargs))


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_file() and p.suffix != '.py')


def bytes_in(value: Any) -> int:
    """Bytes of every tensor, and of everything else as pickle writes it."""
    if isinstance(value, Tensor):
        return value.nbytes
    if isinstance(value, dict):
        return sum(bytes_in(k) + bytes_in(v) for k, v in value.items())
    if isinstance(value, list | tuple):
        return sum(map(bytes_in, value))
    return len(pickle.dumps(value))


OPTIONS = {
    'every epoch': (dict(), ['epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth']),
    'interval': (dict(interval=2), ['epoch_2.pth', 'epoch_3.pth']),
    'max_keep_ckpts': (dict(max_keep_ckpts=1), ['epoch_3.pth']),
    'save_best': (
        dict(save_best='score', rule='greater', max_keep_ckpts=1),
        ['best_score_epoch_3.pth', 'epoch_3.pth'],
    ),
    'by iteration': (dict(by_epoch=False, interval=4, max_keep_ckpts=2), ['iter_4.pth', 'iter_6.pth']),
    'filename_tmpl': (dict(filename_tmpl='task {}.pth', max_keep_ckpts=1), ['task 3.pth']),
}


@pytest.mark.parametrize('option', list(OPTIONS))
def test_options(option: str, tmp_path: Path, weights: Weights) -> None:
    """mmengine's options mean what they mean; every file is a delta with a checksum."""
    settings, left = OPTIONS[option]
    classifier = model(weights)
    runner(classifier, tmp_path / 'run', epochs=3, default_hooks=hooks(**settings)).train()
    assert files(tmp_path / 'run') == sorted([*left, 'last_checkpoint'])
    for name in left:
        assert verify_checksum(tmp_path / 'run' / name)
        content = load_checkpoint_file(str(tmp_path / 'run' / name))
        assert RECORD in content['state_dict']
        assert not any('layer' in key for key in content['state_dict'])
        assert ('optimizer' in content) is not name.startswith('best')


def test_what_is_in_it(tmp_path: Path, weights: Weights) -> None:
    classifier = model(weights, tuning=['pro', 'bias'])
    runner(classifier, tmp_path / 'run', default_hooks=hooks()).train()
    content = load_checkpoint_file(str(tmp_path / 'run/epoch_2.pth'))
    trained = {name for name, param in classifier.named_parameters() if param.requires_grad}
    assert set(content['state_dict']) == trained | {RECORD}
    assert_identical(content['state_dict'], {k: v for k, v in snapshot(classifier).items() if k in trained})
    assert {'optimizer', 'message_hub', 'meta'} <= set(content)
    base = DeltaRecord.from_tensor(content['state_dict'][RECORD]).bases['backbone']
    assert base.source == weights('mmdet', depth=18)
    assert [each['type'] for each in base.tuning] == ['pro', 'bias']


@pytest.mark.parametrize('save_optimizer', [True, False])
def test_size(save_optimizer: bool, tmp_path: Path, weights: Weights) -> None:
    """At most 1.02 of the bytes in it, where a network is large enough for a file's own tables not to count."""
    classifier = model(weights)
    classifier.wide = torch.nn.Linear(2000, 1000)  # as heads are
    runner(classifier, tmp_path / 'run', epochs=1, default_hooks=hooks(save_optimizer=save_optimizer)).train()
    path = tmp_path / 'run/epoch_1.pth'
    content = torch.load(path, weights_only=False)
    assert ('optimizer' in content) is save_optimizer
    assert path.stat().st_size <= 1.02 * bytes_in(content)


def test_small_part_of_a_large_storage(tmp_path: Path, weights: Weights) -> None:
    """Parameters that share one flat buffer: torch.save would write the buffer for each."""
    classifier = model(weights)
    flat = torch.randn(500_000)
    classifier.head.bias = torch.nn.Parameter(flat[:3])
    runner(classifier, tmp_path / 'run', epochs=1, default_hooks=hooks(save_optimizer=False)).train()
    assert (tmp_path / 'run/epoch_1.pth').stat().st_size < 200_000


@pytest.mark.parametrize('ema', [None, *EMAS])
def test_resume(ema: str | None, tmp_path: Path, weights: Weights) -> None:
    """Two epochs in one go, and one, resumed for another: the same tensors, averages too, bit for bit."""

    def run(name: str, epochs: int, resume: bool = False) -> Any:
        torch.manual_seed(0)
        classifier = model(weights, init_cfg=None) if resume else model(weights)
        custom = [dict(type='EMAHook', ema_type=ema)] if ema else []
        without_val = dict(val_cfg=None, val_dataloader=None, val_evaluator=None)
        settings = dict(resume=resume, default_hooks=hooks(), custom_hooks=custom, **without_val)
        each = runner(classifier, tmp_path / name, epochs, **settings)
        each.train()
        return load_checkpoint_file(str(tmp_path / name / f'epoch_{epochs}.pth'))

    if ema and ema.startswith('mmdet'):
        import mmdet.models  # noqa: F401
    whole = run('one', 2)
    run('two', 1)
    again = run('two', 2, resume=True)
    parts = ['state_dict', *(['ema_state_dict'] if ema else [])]
    for part in parts:
        assert_identical(again[part], whole[part])
        assert not any('layer' in key for key in whole[part])
    for key, state in whole['optimizer']['state'].items():
        assert torch.equal(state['momentum_buffer'], again['optimizer']['state'][key]['momentum_buffer'])
    if ema:
        assert not torch.equal(whole['state_dict']['head.weight'], whole['ema_state_dict']['module.head.weight'])


def test_beside_whole_checkpoints(tmp_path: Path, weights: Weights) -> None:
    """Two hooks in one run: each writes its own kind."""
    classifier = model(weights)
    other = dict(type='protuning_mm.CheckpointHook', interval=1, filename_tmpl='whole_{}.pth', save_last=False)
    runner(classifier, tmp_path / 'run', default_hooks=hooks(), custom_hooks=[other]).train()
    for epoch in (1, 2):
        whole = load_checkpoint_file(str(tmp_path / f'run/whole_{epoch}.pth'))['state_dict']
        delta = load_checkpoint_file(str(tmp_path / f'run/epoch_{epoch}.pth'))['state_dict']
        assert RECORD not in whole and set(whole) == set(classifier.state_dict())
        assert_identical(whole, {name: tensor for name, tensor in delta.items() if name != RECORD})


@pytest.mark.parametrize('resumed', [False, True])
def test_base_of_a_run_that_started_from_a_whole_model(resumed: bool, tmp_path: Path, weights: Weights) -> None:
    """``load_from`` brought other frozen weights than ``init_cfg``: the base is that file, also after a resume."""
    source = fill(TinyClassifier(plain_resnet('mmdet', depth=18)), seed=9)
    torch.save(dict(state_dict=source.state_dict()), tmp_path / 'detector.pth')
    start = dict(load_from=str(tmp_path / 'detector.pth'))
    if resumed:  # from a whole checkpoint, by a run that knows nothing of the detector
        whole = hooks() | dict(checkpoint=dict(type='protuning_mm.CheckpointHook', interval=1))
        runner(model(weights), tmp_path / 'run', epochs=1, default_hooks=whole, **start).train()
        start = dict(resume=True)
    runner(model(weights), tmp_path / 'run', epochs=2, default_hooks=hooks(), **start).train()
    state = load_checkpoint_file(str(tmp_path / 'run/epoch_2.pth'))['state_dict']
    assert DeltaRecord.from_tensor(state[RECORD]).bases['backbone'].source == str(tmp_path / 'detector.pth')
    other = TinyClassifier(tuned_resnet())
    other.load_state_dict(state)
    expected = {f'backbone.{k}': v for k, v in source.backbone.state_dict().items()}
    assert_identical(other.state_dict(), expected)


def test_model_without_a_base(tmp_path: Path) -> None:
    run = runner(TinyClassifier(plain_resnet('mmdet', depth=18)), tmp_path / 'run', default_hooks=hooks())
    with pytest.raises(CheckpointError, match='no ProTunedResNet or TunedBackbone.*protuning_mm.CheckpointHook'):
        run.train()


def test_frozen_tensor_that_moves(tmp_path: Path, weights: Weights) -> None:
    """Without the audit too: a delta that fits no base is never written."""
    classifier = model(weights)
    before = classifier.backbone.forward

    def moves(x: Tensor) -> Any:
        classifier.backbone.plain.layer1[0].bn1.running_mean += 1
        return before(x)

    classifier.backbone.forward = moves
    settings = {name: hook for name, hook in hooks().items() if name != 'audit'}
    with pytest.raises(FrozenWeightsError, match='layer1.0.bn1.running_mean'):
        runner(classifier, tmp_path / 'run', default_hooks=settings).train()
    assert not list((tmp_path / 'run').glob('*.pth'))
