"""TuningHook through real runs: a random backbone is refused, heads that do not fit start anew, the table is shown."""

from pathlib import Path
from typing import ClassVar

import pytest
import torch

from protuning_mm.weights import FrozenWeightsError
from tests.plain import assert_identical, fill, plain_resnet, snapshot
from tests.tiny import Noise, TinyClassifier, Weights, runner, tuned_resnet


def log_of(work_dir: Path) -> str:
    return ''.join(path.read_text() for path in work_dir.rglob('*.log'))


def whole_checkpoint(path: Path, num_classes: int = 3, **resnet: object) -> dict:
    """A plain classifier's checkpoint, as the host's own training leaves it."""
    plain = fill(TinyClassifier(plain_resnet('mmdet', **{'depth': 18, **resnet}), num_classes))
    torch.save(dict(state_dict=plain.state_dict(), meta={}), path)
    return plain.state_dict()


def test_random_backbone_does_not_train(tmp_path: Path) -> None:
    model = TinyClassifier(tuned_resnet())
    before = snapshot(model.head)
    with pytest.raises(FrozenWeightsError) as caught:
        runner(model, tmp_path / 'run').train()
    said = str(caught.value)
    assert 'frozen tensors of backbone' in said and 'were not loaded from a file' in said
    assert 'init_cfg' in said and 'load_from' in said and 'allow_random_backbone=True' in said
    assert not list((tmp_path / 'run').glob('*.pth'))
    assert set(before) == set(model.head.state_dict())


@pytest.mark.parametrize('loop', ['val', 'test'])
def test_random_backbone_does_not_evaluate(loop: str, tmp_path: Path) -> None:
    settings = {}
    if loop == 'test':
        run = runner(TinyClassifier(tuned_resnet()), tmp_path / 'x')
        settings = dict(test_dataloader=run.val_dataloader, test_cfg={}, test_evaluator=run._val_evaluator)
    run = runner(TinyClassifier(tuned_resnet()), tmp_path / 'run', **settings)
    with pytest.raises(FrozenWeightsError, match='were not loaded from a file'):
        getattr(run, loop)()


def test_allow_random_backbone_trains(tmp_path: Path) -> None:
    run = runner(TinyClassifier(tuned_resnet(allow_random_backbone=True)), tmp_path / 'run', epochs=1)
    run.train()
    assert run.iter == 2


def test_init_cfg_inside_the_runner(tmp_path: Path, weights: Weights) -> None:
    """The runner itself initialises: no file, no call of ours before it."""
    path = weights('mmdet', depth=18)
    backbone = tuned_resnet(init_cfg=dict(type='Pretrained', checkpoint=path))
    runner(TinyClassifier(backbone), tmp_path / 'run', epochs=1).train()
    assert_identical(backbone.state_dict(), torch.load(path, weights_only=True))


def test_load_from_a_whole_plain_checkpoint(tmp_path: Path) -> None:
    """The check waits for load_from: a backbone without init_cfg is filled by the whole checkpoint."""
    state = whole_checkpoint(tmp_path / 'whole.pth')
    model = TinyClassifier(tuned_resnet())
    run = runner(model, tmp_path / 'run', epochs=1, load_from=str(tmp_path / 'whole.pth'))
    run.train()
    frozen = {k: v for k, v in state.items() if k.startswith('backbone.')}
    assert_identical(model.state_dict(), frozen)
    assert 'keep their initial values' not in log_of(tmp_path / 'run')


def test_heads_of_another_size_are_listed_and_start_anew(tmp_path: Path) -> None:
    state = whole_checkpoint(tmp_path / 'whole.pth', num_classes=80)
    model = TinyClassifier(tuned_resnet())
    run = runner(model, tmp_path / 'run', load_from=str(tmp_path / 'whole.pth'))
    torch.manual_seed(1)
    initial = snapshot(model.head)
    run.load_or_resume()
    assert_identical(model.head.state_dict(), initial)
    assert_identical(model.backbone.state_dict(), {
        k.removeprefix('backbone.'): v for k, v in state.items() if k.startswith('backbone.')
    })  # fmt: skip
    said = log_of(tmp_path / 'run')
    assert '2 tensors have another shape in the checkpoint' in said
    assert 'head.weight: (80, 32) in the checkpoint, (3, 32) in the model' in said
    assert 'head.bias: (80,) in the checkpoint, (3,) in the model' in said


def test_heads_of_another_size_with_ema(tmp_path: Path) -> None:
    """EMAHook loads the checkpoint into its copy too, and must see the same."""
    whole_checkpoint(tmp_path / 'whole.pth', num_classes=80)
    model = TinyClassifier(tuned_resnet())
    runner(
        model,
        tmp_path / 'run',
        epochs=1,
        load_from=str(tmp_path / 'whole.pth'),
        custom_hooks=[dict(type='EMAHook')],
    ).train()


def test_backbone_of_another_width_is_no_head(tmp_path: Path) -> None:
    """Only heads may differ: a reshaped frozen tensor stops the run."""
    whole_checkpoint(tmp_path / 'whole.pth', num_classes=80, depth=34)
    with pytest.raises(FrozenWeightsError, match='unknown'):
        runner(
            TinyClassifier(tuned_resnet()),
            tmp_path / 'run',
            load_from=str(tmp_path / 'whole.pth'),
        ).train()
    state = fill(plain_resnet('mmdet', depth=18, stem_channels=8)).state_dict()
    torch.save({f'backbone.{k}': v for k, v in state.items()}, tmp_path / 'wide.pth')
    with pytest.raises(FrozenWeightsError, match='of another shape'):
        runner(
            TinyClassifier(tuned_resnet()),
            tmp_path / 'run',
            load_from=str(tmp_path / 'wide.pth'),
        ).train()


def test_table_and_ignored_arguments_are_told_once(tmp_path: Path, weights: Weights) -> None:
    backbone = tuned_resnet(weights('mmdet', depth=18), frozen_stages=1, norm_eval=True)
    runner(TinyClassifier(backbone), tmp_path / 'run', epochs=2).train()
    said = log_of(tmp_path / 'run')
    assert said.count('% of full fine-tuning') == 1
    assert all(part in said for part in ('backbone.stem', 'backbone.prompts', 'total'))
    told = 'backbone: frozen_stages=1, norm_eval=True from the config has no effect'
    assert said.count(told) == 1


@pytest.mark.parametrize('loader', ['train', 'val'])
def test_classes_are_checked_before_training(loader: str, tmp_path: Path, weights: Weights) -> None:
    class FourClasses(Noise):
        metainfo: ClassVar = dict(classes=('a', 'b', 'c', 'd'))

    model = TinyClassifier(tuned_resnet(weights('mmdet', depth=18)))
    model.head.num_classes = 3
    loaders = {f'{loader}_dataloader': torch.utils.data.DataLoader(FourClasses(), batch_size=2)}
    with pytest.raises(ValueError, match=rf'head.num_classes=3.*{loader}_dataloader.*4 classes'):
        runner(model, tmp_path / 'run', **loaders).train()
