"""The demo's frozen weights: plain networks of the host libraries load them as they are."""

from pathlib import Path

import numpy as np
import pytest
import torch

REPO = Path(__file__).resolve().parents[2]
WEIGHTS = REPO / 'demo/source_resnet50_w16.pth'


@pytest.fixture(scope='module')
def state():
    return torch.load(WEIGHTS, map_location='cpu', weights_only=True)


def test_file_is_small_and_has_only_tensors(state):
    assert WEIGHTS.stat().st_size <= 8e6
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    assert {value.dtype for value in state.values()} == {torch.float32, torch.int64}


def test_plain_resnets_of_mmdet_and_mmseg_load_them_strictly(state):
    from mmdet.models.backbones import ResNet as DetResNet
    from mmseg.models.backbones import ResNet as SegResNet

    backbone = {key: value for key, value in state.items() if not key.startswith('fc.')}
    assert set(state) - set(backbone) == {'fc.weight', 'fc.bias'}
    image = torch.rand(1, 3, 64, 64)
    maps = []
    for plain in (DetResNet(50, base_channels=16), SegResNet(50, base_channels=16, stem_channels=16)):
        plain.load_state_dict(backbone, strict=True)
        plain.eval()  # mmseg's method returns None
        maps.append(plain(image))
    assert [m.shape[1] for m in maps[0]] == [64, 128, 256, 512]
    for ours, theirs in zip(*maps, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_weights_solve_the_source_task(state):
    """New crops of its photographs: accuracy far above one in eleven."""
    from mmdet.models.backbones import ResNet

    from demo.source_task import SourceCrops

    plain = ResNet(50, base_channels=16)
    plain.load_state_dict({k: v for k, v in state.items() if not k.startswith('fc.')})
    plain.eval()
    crops = [SourceCrops(128, 5)[i] for i in range(128)]
    with torch.no_grad():
        pooled = plain(torch.stack([image for image, _ in crops]))[-1].mean((2, 3))
    logits = pooled @ state['fc.weight'].T + state['fc.bias']
    right = logits.argmax(1).numpy() == np.array([label for _, label in crops])
    assert right.mean() > 0.7
