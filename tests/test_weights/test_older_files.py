"""A delta and a whole checkpoint of an earlier commit still load, tensor for tensor.

tests/fixtures holds the base (mmdet's ResNet-18, 4 channels wide), the files of two runs of one epoch at commit
a33f61f, and the SHA-256 of each tensor of the model that wrote it.
"""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.runner import load_checkpoint
from torch import nn

from tests.tiny import TinyClassifier, runner, tuned_resnet

FIXTURES = Path(__file__).parents[1] / 'fixtures'


def digests(model: nn.Module) -> dict[str, str]:
    return {key: hashlib.sha256(tensor.numpy().tobytes()).hexdigest() for key, tensor in model.state_dict().items()}


@pytest.mark.parametrize('kind', ['whole', 'delta'])
def test_loads_unchanged(kind: str) -> None:
    model = TinyClassifier(tuned_resnet(str(FIXTURES / 'base.pth')))
    load_checkpoint(model, str(FIXTURES / f'{kind}.pth'))
    assert digests(model) == json.loads((FIXTURES / f'{kind}.json').read_text())


def test_a_delta_fetches_the_base_that_the_config_names() -> None:
    """The frozen tensors of the model are random."""
    model = TinyClassifier(tuned_resnet())
    model.backbone.init_cfg = dict(type='Pretrained', checkpoint=str(FIXTURES / 'base.pth'))
    load_checkpoint(model, str(FIXTURES / 'delta.pth'))
    assert digests(model) == json.loads((FIXTURES / 'delta.json').read_text())


@pytest.mark.parametrize('kind', ['whole', 'delta'])
def test_training_resumes_from_it(kind: str, tmp_path: Path) -> None:
    shutil.copy(FIXTURES / f'{kind}.pth', tmp_path / 'old.pth')
    model = TinyClassifier(tuned_resnet(str(FIXTURES / 'base.pth')))
    went_on = runner(model, tmp_path / 'run', epochs=2, load_from=str(tmp_path / 'old.pth'), resume=True)
    torch.manual_seed(0)
    went_on.train()
    assert went_on.epoch == 2 and went_on.iter == 4
