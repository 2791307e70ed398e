"""Checkpoints as their authors publish them: DeiT, Swin, MAE and MoCo v3 fill the hosts' and timm's backbones.

The files are written from timm's and torchvision's models, whose code the authors' own is (DeiT, MAE and MoCo v3 build
on timm's vision transformer), under the authors' keys; what the tuned backbone computes is compared with those models.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from protuning_mm import TunedBackbone
from protuning_mm.weights import CheckpointError, FrozenWeightsError
from tests.families import FAMILIES, flat, images
from tests.plain import SMALL, assert_identical, fill, relative_error

State = dict[str, Tensor]
VIT = dict(img_size=32, patch_size=8, embed_dim=16, depth=4, num_heads=2, mlp_ratio=2)


def as_deit(state: State) -> dict[str, Any]:
    return dict(model=state | {'head.weight': torch.ones(5, 16), 'head.bias': torch.ones(5)})


def as_mae(state: State) -> dict[str, Any]:
    """The file with the decoder; the one without has the encoder's keys alone."""
    decoder = {
        'mask_token': torch.zeros(1, 1, 8),
        'decoder_embed.weight': torch.ones(8, 16),
        'decoder_pos_embed': torch.ones(1, 17, 8),
        'decoder_blocks.0.norm1.weight': torch.ones(8),
        'decoder_pred.bias': torch.ones(192),
    }
    return dict(model=state | decoder)


def as_moco_v3(state: State, head: str = 'head') -> dict[str, Any]:
    """Encoder with a projector in the place of the head, its average, a predictor; DDP's prefix before all."""
    encoder = state | {f'{head}.0.weight': torch.ones(8, 16), f'{head}.1.running_mean': torch.ones(8)}
    keys = {f'module.base_encoder.{k}': v for k, v in encoder.items()}
    keys |= {f'module.momentum_encoder.{k}': v + 1 for k, v in encoder.items()}
    keys |= {'module.predictor.0.weight': torch.ones(8, 8)}
    return dict(epoch=300, arch='vit_base', state_dict=keys, optimizer=dict(state={}, param_groups=[]))


LAYOUTS: dict[str, Callable[[State], dict[str, Any]]] = dict(deit=as_deit, mae=as_mae, moco_v3=as_moco_v3)
# a pre-trained vision transformer as each library builds it; maps from the last layer, with the final norm
VITS = {
    'mmpretrain': FAMILIES['mmpretrain.ViT'] | dict(out_indices=(3,)),
    'mmseg': FAMILIES['mmseg.ViT'] | dict(out_indices=(3,), norm_cfg=dict(type='LN', eps=1e-6), patch_bias=True),
    'timm': dict(type='timm', model_name='vit_tiny_patch16_224', global_pool='', **VIT),
}


def load(path: Path, **backbone: Any) -> TunedBackbone:
    tuned = TunedBackbone(backbone, init_cfg=dict(type='Pretrained', checkpoint=str(path)))
    tuned.init_weights()
    return tuned.eval()


def patches(outs: Any) -> Tensor:
    """(N, H W, C) from a map or from tokens behind a class token."""
    (out,) = flat(outs)
    return out.flatten(2).transpose(1, 2) if out.dim() == 4 else out[:, 1:]


@pytest.mark.parametrize('library', list(VITS))
@pytest.mark.parametrize('layout', list(LAYOUTS))
def test_vision_transformer(layout: str, library: str, tmp_path: Path) -> None:
    theirs = fill(timm.create_model('vit_tiny_patch16_224', num_classes=0, **VIT)).eval()
    torch.save(LAYOUTS[layout](theirs.state_dict()), tmp_path / 'published.pth')
    tuned = load(tmp_path / 'published.pth', **VITS[library])
    x = images('timm.vit')
    with torch.no_grad():
        assert relative_error(patches(tuned(x)), theirs.forward_features(x)[:, 1:]) <= 1e-5


@pytest.mark.parametrize('library', list(VITS))
def test_positions_of_another_image_size(library: str, tmp_path: Path) -> None:
    """What each library does itself: bicubic; a constant stays a constant, class token's position apart."""
    theirs = fill(timm.create_model('vit_tiny_patch16_224', num_classes=0, **VIT))
    state = theirs.state_dict()
    state['pos_embed'][:, 1:] = state['pos_embed'][:, 1:2]
    torch.save(as_mae(state), tmp_path / 'published.pth')
    larger = 48 if library == 'timm' else (48, 48)
    tuned = load(tmp_path / 'published.pth', **VITS[library] | dict(img_size=larger))
    got = tuned.plain.pos_embed
    assert got.shape == (1, 1 + 36, 16)
    assert torch.equal(got[:, :1], state['pos_embed'][:, :1])
    assert torch.allclose(got[:, 1:], state['pos_embed'][:, 1:2].expand(1, 36, 16), atol=1e-6)


@pytest.mark.parametrize('host', ['mmdet', 'mmseg', 'mmpretrain'])
def test_moco_v3_resnet(host: str, tmp_path: Path) -> None:
    import torchvision

    theirs = fill(torchvision.models.resnet50(width_per_group=64)).eval()
    encoder = {k: v for k, v in theirs.state_dict().items() if not k.startswith('fc.')}
    torch.save(as_moco_v3(encoder, head='fc'), tmp_path / 'published.pth')
    tuned = load(tmp_path / 'published.pth', type=f'{host}.ResNet', depth=50, out_indices=(3,))
    x = images('mmdet.ResNet', batch=1)
    with torch.no_grad():
        y = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
        for layer in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4):
            y = layer(y)
        assert relative_error(tuned(x)[0], y) <= 1e-5


@pytest.mark.parametrize('family', ['mmdet.Swin', 'mmseg.Swin', 'mmpretrain.Swin', 'timm.swin'])
def test_swin_of_its_authors(family: str, tmp_path: Path) -> None:
    """Their patches merge at the end of a stage, timm's at the beginning; a final norm stands behind the last."""
    settings = {k: v for k, v in FAMILIES['timm.swin'].items() if k not in ('type', 'out_indices')}
    theirs = fill(timm.create_model(num_classes=0, **settings | dict(img_size=128))).eval()
    state = {
        re.sub(r'^layers\.(\d)\.downsample', lambda m: f'layers.{int(m[1]) - 1}.downsample', key): value
        for key, value in theirs.state_dict().items()
    }
    torch.save(dict(model=state | {'head.weight': torch.ones(5, 64)}), tmp_path / 'published.pth')
    size = {} if family in ('mmdet.Swin', 'mmseg.Swin') else dict(img_size=128)
    tuned = load(tmp_path / 'published.pth', **FAMILIES[family] | size)
    x = images(family, size=(128, 128))
    with torch.no_grad():
        got = tuned(x)[-1]
        last = theirs.forward_intermediates(x, intermediates_only=True)[-1]
        if family != 'timm.swin':  # the hosts' outputs are normed; the file has the last norm alone
            last = theirs.norm(last.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        assert relative_error(got, last) <= 1e-5


def test_safetensors_of_timm(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    cfg = dict(FAMILIES['timm.convnext'])
    theirs = fill(timm.create_model(num_classes=7, **{k: v for k, v in cfg.items() if k != 'type'}))
    save_file(theirs.state_dict(), tmp_path / 'model.safetensors')
    tuned = load(tmp_path / 'model.safetensors', **cfg)
    own = {k: v for k, v in theirs.state_dict().items() if not k.startswith('head.fc.')}
    assert_identical(tuned.state_dict(), own)


@pytest.mark.parametrize('damage', ['truncated', 'no such file', 'not one'])
def test_damaged_safetensors(damage: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / 'model.safetensors'
    if damage != 'no such file':
        save_file(dict(a=torch.ones(100)), path)
        path.write_bytes(path.read_bytes()[:200] if damage == 'truncated' else b'no tensors at all')
    with pytest.raises(CheckpointError, match=r'model\.safetensors'):
        load(path, **FAMILIES['timm.convnext'])


def test_keys_of_another_network_are_an_error(tmp_path: Path) -> None:
    """A DeiT file for a deeper network and a MoCo v3 file for another kind of one."""
    theirs = fill(timm.create_model('vit_tiny_patch16_224', num_classes=0, **VIT))
    torch.save(as_deit(theirs.state_dict()), tmp_path / 'published.pth')
    deeper = dict(type='timm', model_name='vit_tiny_patch16_224', **VIT | dict(depth=5))
    with pytest.raises(FrozenWeightsError, match=r'missing(.|\n)*blocks\.4\.norm1\.weight'):
        load(tmp_path / 'published.pth', **deeper)
    torch.save(as_moco_v3(theirs.state_dict()), tmp_path / 'published.pth')
    with pytest.raises(FrozenWeightsError, match=r'missing(.|\n)*unknown'):
        load(tmp_path / 'published.pth', type='mmdet.ResNet', depth=18, **SMALL)
