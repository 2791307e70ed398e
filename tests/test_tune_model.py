"""protuning_mm.tune: configs, models of the hosts, and networks of timm, torchvision and others."""

import copy
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from mmengine.config import Config
from mmengine.registry import MODELS as REGISTRY
from mmengine.registry import init_default_scope
from torch import nn
from torch.nn import functional as F

from protuning_mm import TuningError, load_delta, print_trainable_parameters, save_delta, tune
from protuning_mm.backbones import TunedBackbone
from protuning_mm.stages import ReadingError
from tests.plain import fill, relative_error

RESNET = dict(depth=18, base_channels=4, out_indices=(0, 1, 2, 3), norm_eval=True, frozen_stages=1)
HEADS = dict(channels=8, num_classes=3, norm_cfg=dict(type='BN'))
MODELS: dict[str, Any] = {
    'mmdet': dict(
        type='mmdet.RetinaNet',
        backbone=dict(type='mmdet.ResNet', **RESNET),
        neck=dict(type='mmdet.FPN', in_channels=[4, 8, 16, 32], out_channels=8, num_outs=4),
        bbox_head=dict(
            type='mmdet.RetinaHead',
            num_classes=3,
            in_channels=8,
            feat_channels=8,
            stacked_convs=1,
            anchor_generator=dict(type='mmdet.AnchorGenerator', scales=[8], ratios=[1.0], strides=[4, 8, 16, 32]),
        ),
        test_cfg=dict(nms_pre=10, nms=dict(type='nms', iou_threshold=0.5)),
    ),
    'mmseg': dict(
        type='mmseg.EncoderDecoder',
        data_preprocessor=dict(type='mmseg.SegDataPreProcessor', size=(64, 64)),
        backbone=dict(type='mmseg.ResNetV1c', stem_channels=4, **RESNET),
        decode_head=dict(type='mmseg.FCNHead', in_channels=32, in_index=3, **HEADS),
        test_cfg=dict(mode='whole'),
    ),
    'mmpretrain': dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmpretrain.ResNet', stem_channels=4, **(RESNET | dict(out_indices=(3,)))),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=3, in_channels=32),
    ),
}
TIMM = ('vit_tiny_patch16_224', 'convnext_atto', 'tf_efficientnet_lite0', 'swin_tiny_patch4_window7_224')


def tensors(outs: Any) -> list[torch.Tensor]:
    return [outs] if isinstance(outs, torch.Tensor) else [t for each in outs for t in tensors(each)]


def build(host: str) -> nn.Module:
    import_module(f'{host}.models')
    init_default_scope(host)
    with REGISTRY.switch_scope_and_registry(host) as registry:
        return fill(registry.build(copy.deepcopy(MODELS[host]))).eval()


@pytest.mark.parametrize('tuning', ['pro', dict(type='lora', rank=2), 'bias'])
@pytest.mark.parametrize('host', MODELS)
def test_model_of_a_host_keeps_its_weights_and_outputs(host: str, tuning: Any) -> None:
    model = build(host)
    image = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    before, state = tensors(model(image, mode='tensor')), {k: v.clone() for k, v in model.state_dict().items()}
    tuned = tune(model, tuning)
    assert tuned is model and isinstance(tuned.backbone, TunedBackbone)
    for got, expected in zip(tensors(tuned.eval()(image, mode='tensor')), before, strict=True):
        assert relative_error(got, expected) < 1e-5
    after = tuned.state_dict()
    assert all(torch.equal(after[key], tensor) for key, tensor in state.items())
    tuned.train()
    trained = {name for name, param in tuned.named_parameters() if param.requires_grad}
    biases = {name for name in state if tuning == 'bias' and name.startswith('backbone') and name.endswith('bias')}
    assert {name for name in trained if name in state and name.startswith('backbone')} == biases
    assert trained >= {name for name in state if name.startswith(('neck', 'bbox_head', 'decode_head', 'head'))
                       and not name.endswith(('running_mean', 'running_var', 'num_batches_tracked'))}  # fmt: skip


def test_timm_network_trained_saved_and_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    plain = fill(timm.create_model('resnet18', num_classes=3)).eval()
    image, label = torch.randn(4, 3, 64, 64), torch.tensor([0, 1, 2, 0])
    source, expected = copy.deepcopy(plain), plain(image)
    model = tune(plain, 'pro')
    torch.testing.assert_close(model.eval()(image), expected, rtol=1e-4, atol=1e-5)
    print_trainable_parameters(model)
    assert 'backbone.prompts' in capsys.readouterr().out

    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    model.train()
    losses = []
    for _ in range(20):
        loss = F.cross_entropy(model(image), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    frozen = source.state_dict()
    for key, tensor in model.backbone.frozen_tensors().items():
        assert torch.equal(tensor, frozen[key]), key
    save_delta(model, tmp_path / 'task.pth')
    assert (tmp_path / 'task.pth').stat().st_size < 0.2 * sum(t.nbytes for t in frozen.values())
    again = tune(copy.deepcopy(source), 'pro')
    load_delta(again, tmp_path / 'task.pth')
    assert torch.equal(again.eval()(image), model.eval()(image))


@pytest.mark.parametrize(
    'name', ['vit_tiny_patch16_224', 'convnext_atto', 'tf_efficientnet_lite0', 'swin_tiny_patch4_window7_224']
)
def test_timm_classifiers_compute_the_same(name: str) -> None:
    plain = timm.create_model(name, num_classes=5).eval()
    nn.init.normal_(plain.get_classifier().weight, std=0.1)
    image = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected = plain(image)
        torch.testing.assert_close(tune(plain).eval()(image), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    'name', ['resnet18', 'mobilenet_v3_small', 'shufflenet_v2_x0_5', 'convnext_tiny', 'swin_t', 'vgg11']
)
def test_torchvision_classifiers_compute_the_same_and_learn(name: str) -> None:
    """In double precision, which the added modules take over from the network."""
    plain = torchvision.models.get_model(name, num_classes=5).double().eval()
    image = torch.randn(2, 3, 96, 96, dtype=torch.float64)
    with torch.no_grad():
        expected = plain(image)
    model = tune(plain, allow_random_backbone=True).eval()
    assert relative_error(model(image), expected) < 1e-9
    backbone: TunedBackbone = model.backbone
    before = {key: value.clone() for key, value in backbone.frozen_tensors().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.01)
    for _ in range(2):
        model.train()(image).square().sum().backward()
        optimizer.step()
    assert all(param.grad is not None and param.grad.any() for param in backbone.prompts.parameters())
    assert model.head.weight.grad.any() and model.head.out_features == 5
    assert all(torch.equal(value, before[key]) for key, value in backbone.frozen_tensors().items())


def test_network_of_one_s_own() -> None:
    """Its modules run in sequence, so it needs no reader."""

    class Net(nn.Module):
        width = 8

        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, stride=4, padding=1)
            self.first = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
            self.second = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU())

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            x: torch.Tensor = self.second(self.first(self.stem(image)))
            return x

    plain = Net()
    image = torch.randn(1, 3, 64, 64)
    expected = plain(image)
    backbone = tune(plain, efficient_frozen=False)
    assert [(stage.end, stage.channels) for stage in backbone.structure.stages] == [('first', 8), ('second', 16)]
    assert torch.equal(backbone.eval()(image), expected)
    assert backbone.width == 8 and not hasattr(backbone, 'height')


def test_network_without_classifier_and_settings() -> None:
    backbone = tune(timm.create_model('resnet18', num_classes=0), 'linear', efficient_frozen=False)
    assert isinstance(backbone, TunedBackbone) and not backbone.efficient_frozen


def test_backbones_frozen_by_the_host_are_tuned() -> None:
    """The host's frozen_stages must not freeze what full fine-tuning trains."""
    from mmdet.models.backbones import ResNet

    tuned = tune(ResNet(18, base_channels=4, stem_channels=4, frozen_stages=2), 'full').train()
    assert all(param.requires_grad for param in tuned.parameters())


@pytest.mark.parametrize('kind', ['classifier', 'detector', 'backbone'])
def test_refused_tuning_leaves_the_model_as_it_was(kind: str) -> None:
    """A second try with another tuning then does what a first one does."""
    model: Any = build('mmdet') if kind == 'detector' else timm.create_model('resnet18', num_classes=3).eval()
    if kind == 'backbone':
        model.reset_classifier(0)
    image = torch.randn(1, 3, 64, 64)
    call = dict(mode='tensor') if kind == 'detector' else {}
    before, trained = tensors(model(image, **call)), [p.requires_grad for p in model.parameters()]
    names = [name for name, _ in model.named_modules()]
    for make in (tune, lambda net, tuning: TunedBackbone(net, tuning)) if kind == 'backbone' else (tune,):
        with pytest.raises(TuningError, match='vpt needs a plain vision transformer'):
            make(model, 'vpt')
        assert [name for name, _ in model.named_modules()] == names
        assert [p.requires_grad for p in model.parameters()] == trained
        assert all(torch.equal(a, b) for a, b in zip(tensors(model(image, **call)), before, strict=True))
    tuned = tune(model, 'full').train()
    assert sum(p.requires_grad for p in tuned.parameters()) == len(list(tuned.parameters()))


def test_several_backbones_are_tuned_and_a_teacher_is_not() -> None:
    def network() -> nn.Module:
        return timm.create_model('resnet18', num_classes=0)

    outer = nn.Module()
    outer.teacher = nn.Module()
    outer.teacher.backbone = network()
    outer.backbone = nn.ModuleDict(dict(colour=network(), depth=network()))
    tune(outer, 'linear')
    assert isinstance(outer.backbone['colour'], TunedBackbone) and isinstance(outer.backbone['depth'], TunedBackbone)
    assert not isinstance(outer.teacher.backbone, TunedBackbone)


def test_configs(tmp_path: Path) -> None:
    config = tune('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', dict(type='lora', rank=4))
    assert isinstance(config, Config)
    assert config.model.backbone.tuning == dict(type='lora', rank=4)
    assert tune(config).model.backbone.tuning == 'pro'


@pytest.mark.parametrize(
    ('make', 'error', 'message'),
    [
        (lambda: tune(timm.create_model('resnet18', num_classes=2)), TuningError, 'TunedClassifier is tuned already'),
        (
            lambda: nn.Sequential(nn.Conv2d(3, 4, 3)),
            ReadingError,
            'torch.Sequential has no child backbone or .* cannot be',
        ),
        (
            lambda: torchvision.models.get_model('squeezenet1_1'),
            ReadingError,
            'its classifier is a convolution. Tune its features, and add a head of your own',
        ),
        (lambda: torchvision.models.get_model('vit_b_32'), ReadingError, "self_attention' does not run in sequence"),
        (
            lambda: timm.create_model('deit_tiny_distilled_patch16_224'),
            TuningError,
            'classifier of type tuple, not one linear layer: create it with num_classes=0',
        ),
    ],
)
def test_what_cannot_be_tuned_raises(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        tune(make())
