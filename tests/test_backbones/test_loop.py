"""The loop of the paper over ``stem``, ``stages`` and ``prompts`` gives the backbone's own features."""

import pytest
import torch
from torch import Tensor, nn

from protuning_mm import TunedBackbone
from protuning_mm.stages.layouts import MapsLast, TokenMap
from tests.families import FAMILIES, flat, images
from tests.plain import disturb, fill, relative_error
from tests.timm_models import MISREAD, MODELS, QUICK, REFUSED, UNREAD

# Visformer adds position embeddings between its stages, in none of its modules.
BETWEEN_STAGES = {'visformer'}
LOOPS = [
    module
    for module in MODELS
    if module not in {*UNREAD, *MISREAD, *BETWEEN_STAGES} and 'pro' not in REFUSED.get(module, ())
]


def tuned(family: str) -> TunedBackbone:
    """A backbone in double precision whose prompts are far from zero."""
    torch.manual_seed(0)
    backbone = TunedBackbone(FAMILIES[family], allow_random_backbone=True)
    fill(backbone)
    disturb(backbone.prompts)
    return backbone.double()


def loop(backbone: TunedBackbone, image: Tensor) -> list[Tensor]:
    """As the paper writes it."""
    outs = []
    x = backbone.stem(image)
    for stage, prompt in zip(backbone.stages, backbone.prompts):
        x = stage(x)
        x = x + prompt(x)
        outs.append(x.map if isinstance(x, TokenMap) else x)
    return outs


def own_features(backbone: TunedBackbone, image: Tensor) -> list[Tensor]:
    """What the host's forward hands to the next stage, as maps (N, C_i, H_i, W_i) whose (H_i, W_i) the loop tells."""
    seen: list[Tensor] = []
    handles = [
        backbone.plain.get_submodule(stage.end).register_forward_hook(lambda module, args, y: seen.append(y))
        for stage in backbone.structure.up_to_last_out().stages
    ]
    backbone(image)
    for handle in handles:
        handle.remove()
    return seen


def as_map(feature: Tensor, like: Tensor, channels_last: bool = False) -> Tensor:
    """A map, a map with channels last, or tokens of which the last are the grid's."""
    if feature.dim() == 4:
        return feature.permute(0, 3, 1, 2) if channels_last or feature.shape != like.shape else feature
    return feature[:, -like[0, 0].numel() :].transpose(1, 2).reshape(like.shape)


@pytest.mark.parametrize('train', [False, True], ids=['eval', 'train'])
@pytest.mark.parametrize('family', FAMILIES)
def test_the_loop_is_the_backbone(family: str, train: bool) -> None:
    backbone = tuned(family).train(train)
    image = images(family).double()
    got = loop(backbone, image)
    expected = own_features(backbone, image)
    assert len(got) == len(expected) == len(backbone.prompts)
    for ours, feature in zip(got, expected):
        assert relative_error(ours, as_map(feature, ours)) < 1e-12
    for ours, feature in zip(backbone.features(image), got):
        assert torch.equal(ours.map if isinstance(ours, TokenMap) else ours, feature)


@pytest.mark.parametrize(
    'module', [module if module in QUICK else pytest.param(module, marks=pytest.mark.slow) for module in LOOPS]
)
def test_the_loop_is_the_backbone_of_timm(module: str) -> None:
    """One small network of every module of timm.models that can be read as stages."""
    small = MODELS[module]
    torch.manual_seed(0)
    cfg = dict(type='timm', model_name=small.name, **(small.given or {}))
    backbone = TunedBackbone(cfg, allow_random_backbone=True).double().eval()
    disturb(backbone.prompts)
    image = torch.randn(2, 3, small.size, small.size).double()
    channels_last = isinstance(backbone.structure.layout, MapsLast)
    with torch.no_grad():
        got, expected = loop(backbone, image), own_features(backbone, image)
    assert len(got) == len(expected) == len(backbone.prompts)
    for ours, feature in zip(got, expected):
        assert relative_error(ours, as_map(feature, ours, channels_last)) < 1e-10


@pytest.mark.parametrize('family', FAMILIES)
def test_the_loop_gives_the_prompts_their_gradients(family: str) -> None:
    """Of the first prompt through all later stages, for a loss on the last feature."""
    backbone, other = (tuned(family).train() for _ in range(2))
    image = images(family).double()
    last = loop(backbone, image)[-1]
    last.square().sum().backward()
    as_map(own_features(other, image)[-1], last).square().sum().backward()
    for ours, expected in zip(backbone.prompts[0].parameters(), other.prompts[0].parameters()):
        assert ours.grad is not None and expected.grad is not None
        assert relative_error(ours.grad, expected.grad) < 1e-9


def test_the_stages_hold_every_tensor_between_the_stem_and_the_neck_once() -> None:
    for family in FAMILIES:
        backbone = tuned(family)
        of_stages = [id(p) for stage in backbone.stages for p in stage.parameters()]
        assert len(of_stages) == len(set(of_stages))
        blocks = [backbone.plain.get_submodule(block.path) for block in backbone.structure.blocks]
        assert {id(p) for block in blocks for p in block.parameters()} <= set(of_stages), family


def test_the_stem_leaves_nothing_behind() -> None:
    backbone = tuned('mmdet.ResNet')
    first: nn.Module = backbone.plain.layer1
    before = dict(first._forward_pre_hooks)
    backbone.stem(images('mmdet.ResNet').double())
    assert dict(first._forward_pre_hooks) == before


@pytest.mark.parametrize('family', ['mmseg.ResNetV1c', 'mmdet.Swin', 'timm.convnext'])
def test_paths_of_the_host_s_own_stem_and_stages_still_lead_there(family: str) -> None:
    """torch.func.functional_call and torch.export look modules up by attribute."""
    backbone = tuned(family).eval()
    for path, module in backbone.plain.named_modules():
        if path and path not in ('stem', 'stages') and not path.removeprefix('stages.').isdigit():
            assert backbone.get_submodule(path) is module
    image = images(family).double()
    doubled = {name: param * 2 for name, param in backbone.named_parameters() if param.dim() > 1}
    got = torch.func.functional_call(backbone, doubled, (image,))
    with torch.no_grad():
        for param in backbone.parameters():
            param *= 2 if param.dim() > 1 else 1
    for ours, expected in zip(flat(got), flat(backbone(image))):
        assert relative_error(ours, expected) < 1e-10
