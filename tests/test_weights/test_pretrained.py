"""Weights: every shape of file that people have fills the backbone wholly, and every other is refused by key."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModule
from mmengine.runner import load_checkpoint
from torch import Tensor, nn

from protuning_mm import ProTunedResNet
from protuning_mm.weights import CheckpointError, FrozenWeightsError
from tests.plain import SMALL, assert_identical, disturb, fill, image, plain_resnet, relative_error, snapshot
from tests.tiny import TinyClassifier, Weights, tuned_resnet

State = dict[str, Tensor]


def with_prefix(prefix: str, state: State) -> State:
    return {f'{prefix}{key}': tensor for key, tensor in state.items()}


HEAD = {'fc.weight': torch.ones(10, 32), 'fc.bias': torch.ones(10)}
SHAPES: dict[str, Callable[[State], dict]] = {
    'a plain backbone': lambda s: s,
    'with fc. as torchvision': lambda s: s | HEAD,
    'with head. as mmpretrain': lambda s: s | {'head.fc.weight': torch.ones(10, 32)},
    'without num_batches_tracked': lambda s: {k: v for k, v in s.items() if not k.endswith('num_batches_tracked')},
    'state_dict': lambda s: dict(state_dict=s, meta=dict(epoch=3)),
    'a whole detector': lambda s: dict(
        state_dict=with_prefix('backbone.', s)
        | {'neck.fpn.weight': torch.ones(2), 'roi_head.bbox_head.0.fc_cls.weight': torch.ones(3)}
    ),
    'a whole segmentor': lambda s: with_prefix('backbone.', s) | {'decode_head.conv_seg.weight': torch.ones(2)},
    'DDP': lambda s: with_prefix('module.', s | HEAD),
    'a whole detector in DDP': lambda s: dict(
        state_dict=with_prefix('module.backbone.', s) | {'module.neck.weight': torch.ones(2)}
    ),
}


def pretrained(path: str) -> State:
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize('shape', list(SHAPES))
def test_shapes_of_files(shape: str, weights: Weights, tmp_path: Path) -> None:
    """Filled bit for bit, heads and necks passed over, prompts at their start."""
    state = pretrained(weights('mmdet', depth=18))
    torch.save(SHAPES[shape](state), tmp_path / 'weights.pth')
    tuned = tuned_resnet(str(tmp_path / 'weights.pth'))
    if 'num_batches' in shape:  # absent there, not used in eval mode: the host's initial value
        state = {k: v for k, v in state.items() if not k.endswith('num_batches_tracked')}
    assert_identical(tuned.state_dict(), state)
    assert tuned.frozen_source == str(tmp_path / 'weights.pth')
    assert not tuned.prompts[0](torch.ones(1, 4, 5, 5)).any()


def test_prefix_of_one_s_own(weights: Weights, tmp_path: Path) -> None:
    state = pretrained(weights('mmdet', depth=18))
    torch.save(with_prefix('teacher.net.', state) | with_prefix('backbone.', state), tmp_path / 'w')
    for prefix in ('teacher.net', 'teacher.net.'):
        tuned = tuned_resnet(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'w'), prefix=prefix))
        tuned.init_weights()
        assert_identical(tuned.state_dict(), state)
    tuned.init_cfg['prefix'] = 'student'
    with pytest.raises(CheckpointError, match=r"begins with 'student\.'.*backbone.*teacher"):
        tuned.init_weights()


def test_our_own_checkpoint_fills_another_backbone(weights: Weights, tmp_path: Path) -> None:
    """A file saved from a tuned backbone: its prompts are passed over, its frozen tensors taken."""
    tuned = tuned_resnet(weights('mmdet', depth=18))
    disturb(tuned.prompts)
    torch.save(tuned.state_dict(), tmp_path / 'tuned.pth')
    again = tuned_resnet(str(tmp_path / 'tuned.pth'))
    assert_identical(again.state_dict(), pretrained(weights('mmdet', depth=18)))


WRONG: dict[str, tuple[dict, Callable[[State], dict], list[str]]] = {
    # (the file's network, what is done to its state, what the error must list)
    'an empty file': (dict(depth=18), lambda s: {}, ['missing', 'conv1.weight']),
    'only a head': (dict(depth=18), lambda s: HEAD, ['missing', 'conv1.weight']),
    'a missing key': (
        dict(depth=18),
        lambda s: {k: v for k, v in s.items() if k != 'layer3.1.bn2.running_var'},
        ['1 missing', 'layer3.1.bn2.running_var'],
    ),
    'another shape': (
        dict(depth=18),
        lambda s: s | {'layer2.0.conv1.weight': torch.ones(8, 4, 1, 1)},
        ['1 of another shape', 'layer2.0.conv1.weight: (8, 4, 1, 1) in the file, (8, 4, 3, 3) in the backbone'],
    ),
    'another width': (
        dict(depth=18, base_channels=8, stem_channels=8),
        lambda s: s,
        ['of another shape', 'conv1.weight: (8, 3, 7, 7) in the file, (4, 3, 7, 7) in the backbone'],
    ),
    'another stem': (
        dict(depth=18, deep_stem=True),
        lambda s: s,
        ['missing', 'conv1.weight', 'unknown', 'stem.0.weight'],
    ),
    'a deeper network': (dict(depth=34), lambda s: s, ['unknown', 'layer1.2.conv1.weight']),
}


@pytest.mark.parametrize('wrong', list(WRONG))
def test_refuses_and_lists_the_keys(wrong: str, weights: Weights, tmp_path: Path) -> None:
    resnet, change, named = WRONG[wrong]
    path = str(tmp_path / 'weights.pth')
    torch.save(change(pretrained(weights('mmdet', **resnet))), path)
    with pytest.raises(FrozenWeightsError) as caught:
        tuned_resnet(path)
    assert all(text in str(caught.value) for text in [path, *named]), str(caught.value)


@pytest.mark.parametrize(('there', 'here', 'said'), [(50, 101, 'missing'), (101, 50, 'unknown')])
def test_other_depth(there: int, here: int, said: str, weights: Weights) -> None:
    """The shallower file lacks keys, the deeper one has more; both are refused, with layer3's keys named."""
    with pytest.raises(FrozenWeightsError, match=rf'(?s){said}.*layer3\.'):
        tuned_resnet(weights('mmdet', depth=there), depth=here)


@pytest.mark.parametrize('content', [torch.ones(3), [1, 2], {1: torch.ones(2)}])
def test_file_without_named_tensors(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / 'weights.pth')
    with pytest.raises(CheckpointError, match='weights.pth'):
        tuned_resnet(str(tmp_path / 'weights.pth'))


def test_missing_file_and_unknown_name_of_a_scheme(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match='no_such.pth.* does not exist'):
        tuned_resnet(str(tmp_path / 'no_such.pth'))
    with pytest.raises(CheckpointError, match='torchvision://resnet51'):
        tuned_resnet('torchvision://resnet51')


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """Stand in for the network only: torch's downloader copies a local file in place of each URL's."""
    served: dict[str, str] = {}

    def download(url: str, target: str, *args: object, **kwargs: object) -> None:
        name = next((name for name in served if url.rsplit('/', 1)[-1].startswith(name)), None)
        if name is None:
            raise OSError(f'no network for {url}')
        shutil.copy(served[name], target)

    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch_home'))
    return served


@pytest.mark.parametrize(
    'name',
    ['resnet18', pytest.param('resnet50', marks=pytest.mark.slow)],
)
def test_torchvision_scheme(name: str, downloads: dict[str, str], tmp_path: Path) -> None:
    """torchvision://… of full width, through mmengine's own scheme: the features are torchvision's."""
    import torchvision

    theirs = fill(getattr(torchvision.models, name)(weights=None)).eval()
    torch.save(theirs.state_dict(), tmp_path / 'file.pth')
    downloads[f'{name}-'] = str(tmp_path / 'file.pth')
    tuned = ProTunedResNet(
        depth=int(name.removeprefix('resnet')),
        host='mmdet',
        init_cfg=dict(type='Pretrained', checkpoint=f'torchvision://{name}'),
    )
    tuned.init_weights()
    with torch.no_grad():
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(image()))))
        for i, got in enumerate(tuned(image())):
            x = getattr(theirs, f'layer{i + 1}')(x)
            assert relative_error(got, x) <= 1e-5


def test_open_mmlab_scheme(downloads: dict[str, str], weights: Weights) -> None:
    """open-mmlab://resnet50_v1c, as mmseg's `pretrained=`, through mmengine's own scheme."""
    path = weights('mmseg', depth=50, deep_stem=True)
    downloads['resnet50_v1c-'] = path
    tuned = tuned_resnet(depth=50, host='mmseg', deep_stem=True, pretrained='open-mmlab://resnet50_v1c')
    tuned.init_weights()
    assert_identical(tuned.state_dict(), pretrained(path))


def test_no_network(downloads: dict[str, str]) -> None:
    with pytest.raises(CheckpointError, match='torchvision://resnet18.*cannot be fetched'):
        tuned_resnet('torchvision://resnet18')


class Detector(BaseModule):
    """The shape of a whole model: a backbone and a head."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = nn.Conv2d(32, 8, 1)


def whole(weights: Weights, **resnet: object) -> Detector:
    return Detector(fill(plain_resnet('mmdet', **resnet)))


@pytest.mark.parametrize('strict', [True, False])
def test_whole_model_of_another_depth_is_refused(strict: bool, weights: Weights, tmp_path: Path) -> None:
    """torch's load_state_dict and mmengine's load_checkpoint, strict or not: never half a backbone."""
    state = whole(weights, depth=34).state_dict()
    torch.save(dict(state_dict=state), tmp_path / 'whole.pth')
    model = Detector(tuned_resnet())
    with pytest.raises(FrozenWeightsError, match='layer1.2.conv1.weight'):
        model.load_state_dict(state, strict=strict)
    with pytest.raises(FrozenWeightsError, match='layer1.2.conv1.weight'):
        load_checkpoint(model, str(tmp_path / 'whole.pth'), strict=strict)
    assert model.backbone.frozen_source is None
    missing = {k: v for k, v in whole(weights, depth=18).state_dict().items() if 'bn1.bias' not in k}
    with pytest.raises(FrozenWeightsError, match='layer1.0.bn1.bias'):
        model.load_state_dict(missing, strict=strict)


def test_head_alone_on_a_random_backbone_is_refused(weights: Weights) -> None:
    """What holds no backbone leaves a random one random; on a filled backbone it is welcome."""
    state = {k: v for k, v in whole(weights, depth=18).state_dict().items() if 'neck' in k}
    with pytest.raises(FrozenWeightsError, match='missing'):
        Detector(tuned_resnet()).load_state_dict(state, strict=False)
    for model in (
        Detector(tuned_resnet(weights('mmdet', depth=18))),
        Detector(tuned_resnet(allow_random_backbone=True)),
    ):
        model.load_state_dict(state, strict=False)
        assert torch.equal(model.neck.weight, state['neck.weight'])


def test_plain_and_tuned_model_exchange_checkpoints(weights: Weights, tmp_path: Path) -> None:
    """Names are one to one: the plain model's file loads into the tuned one and the tuned one's into the plain."""
    plain = whole(weights, depth=18)
    torch.save(plain.state_dict(), tmp_path / 'plain.pth')
    tuned = Detector(tuned_resnet())
    load_checkpoint(tuned, str(tmp_path / 'plain.pth'))
    assert_identical(tuned.state_dict(), plain.state_dict())
    extra = set(tuned.state_dict()) - set(plain.state_dict())
    assert extra and all(key.startswith('backbone.prompts.') for key in extra)

    disturb(tuned.backbone.prompts)
    torch.save(tuned.state_dict(), tmp_path / 'tuned.pth')
    again = Detector(plain_resnet('mmdet', depth=18))
    load_checkpoint(again, str(tmp_path / 'tuned.pth'))
    assert_identical(again.state_dict(), plain.state_dict())


def test_initialised_inside_a_whole_model(weights: Weights) -> None:
    """A parent's init_weights() fills the backbone strictly too, and only warns about nothing of ours."""
    path = weights('mmdet', depth=18)
    tuned = ProTunedResNet(depth=18, host='mmdet', init_cfg=dict(type='Pretrained', checkpoint=path), **SMALL)
    model = TinyClassifier(tuned)
    model.init_weights()
    assert_identical(model.backbone.state_dict(), pretrained(path))
    assert not model.backbone.prompts[0].expand.weight.any()


def test_random_start_is_the_host_s(weights: Weights) -> None:
    """Without a file the frozen tensors are what the host's class starts with, and are known to come from none."""
    tuned = tuned_resnet()
    torch.manual_seed(3)
    tuned.init_weights()
    plain = plain_resnet('mmdet', depth=18)
    torch.manual_seed(3)
    plain.init_weights()
    assert_identical(tuned.state_dict(), plain.state_dict())
    assert tuned.frozen_source is None


@pytest.mark.parametrize(
    ('value', 'said'),
    [
        (3, 'int, not a tensor'),
        ('x', 'str, not a tensor'),
        (torch.zeros(4, 3, 7, 7).to_sparse(), 'layout torch.sparse_coo'),
        (torch.zeros(4, 3, 7, 7, dtype=torch.complex64), 'torch.complex64'),
        (torch.zeros(4, 3, 7, 7, dtype=torch.uint8), 'torch.uint8'),
    ],
)
def test_frozen_tensor_of_another_kind(value: object, said: str, weights: Weights, tmp_path: Path) -> None:
    """Named, by load_checkpoint too; a complex or whole number would be taken without a word."""
    tuned = tuned_resnet(weights('mmdet', depth=18))
    before = snapshot(tuned)
    torch.save(dict(state_dict={**tuned.state_dict(), 'conv1.weight': value}), tmp_path / 'odd.pth')
    with pytest.raises(FrozenWeightsError, match=rf'1 of the wrong type:\n    conv1.weight: .*{said}'):
        load_checkpoint(tuned, str(tmp_path / 'odd.pth'))
    assert_identical(tuned.state_dict(), before)
