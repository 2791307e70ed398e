"""count_parameters against sums over torch's own parameters."""

import pytest
import torch
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from torch import nn

from protuning_mm.engine import count_parameters
from tests.plain import plain_resnet
from tests.tiny import TinyClassifier, Weights, tuned_resnet


def total(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_every_part_once(weights: Weights) -> None:
    model = TinyClassifier(tuned_resnet(weights('mmdet', depth=18)))
    table = count_parameters(model)
    parts = {part.name: (part.trained, part.frozen) for part in table.parts}
    plain = plain_resnet('mmdet', depth=18)
    assert parts == {
        'backbone.stem': (0, total(plain.conv1) + total(plain.bn1)),
        **{f'backbone.stages.{i}': (0, total(getattr(plain, f'layer{i + 1}'))) for i in range(4)},
        'backbone.prompts': (total(model.backbone.prompts), 0),
        'head': (total(model.head), 0),
    }
    assert table.trained == total(model.backbone.prompts) + total(model.head)
    assert table.frozen == total(plain)
    assert table.full == total(plain) + total(model.head)
    assert table.share == table.trained / table.full


def test_plain_model_and_full_fine_tuning(weights: Weights) -> None:
    """The twin's table has the same parts, all trained, and its total is the tuned one's `full`."""
    tuned = count_parameters(TinyClassifier(tuned_resnet(weights('mmdet', depth=18))))
    table = count_parameters(TinyClassifier(plain_resnet('mmdet', depth=18)))
    assert table.trained == table.full == tuned.full and table.frozen == 0 and table.share == 1
    names = [part.name for part in tuned.parts if part.name != 'backbone.prompts']
    assert [part.name for part in table.parts] == names


def test_deep_stem_is_the_stem(weights: Weights) -> None:
    model = TinyClassifier(tuned_resnet(deep_stem=True))
    stem = next(p for p in count_parameters(model).parts if p.name == 'backbone.stem')
    assert stem.frozen == total(model.backbone.plain.stem)


def test_wrapped_model(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    model = TinyClassifier(tuned_resnet(weights('mmdet', depth=18)))
    wrapped = MMDistributedDataParallel.__new__(MMDistributedDataParallel)
    nn.Module.__init__(wrapped)
    wrapped.module = model
    assert is_model_wrapper(wrapped)
    assert count_parameters(wrapped) == count_parameters(model)


def test_printed_table(weights: Weights) -> None:
    """The numbers that are printed are those that were counted."""
    table = count_parameters(TinyClassifier(tuned_resnet(weights('mmdet', depth=18))))
    lines = str(table).splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines if not line.startswith('-')}
    assert rows['total'] == [f'{table.trained:,}', f'{table.frozen:,}']
    for part in table.parts:
        assert rows[part.name] == [f'{part.trained:,}', f'{part.frozen:,}']
    assert f'{100 * table.share:.1f}% of full fine-tuning' in lines[-1]
    as_dict = table.to_dict()
    assert sum(part['trained'] for part in as_dict['parts']) == as_dict['trained'] == table.trained


class Odd(nn.Module):
    """Parameters of its own, and two children that share a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 7))
        self.encoder = nn.Linear(4, 4)
        self.decoder = nn.Linear(4, 4)
        self.decoder.weight = self.encoder.weight


@pytest.mark.parametrize('build', [Odd, lambda: nn.Linear(3, 2), nn.Identity], ids=['odd', 'no child', 'nothing'])
def test_every_parameter_is_counted_once(build):
    model = build()
    table = count_parameters(model)
    assert table.trained == sum(p.numel() for p in model.parameters()) and table.frozen == 0
    assert 'M trained' in str(table)
