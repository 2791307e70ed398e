"""LoRA files of PEFT; ``fixtures/peft`` was written by PEFT 0.21.2, with the logits that it computed."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import protuning_mm
from protuning_mm.weights import CheckpointError
from tests.plain import relative_error

FOLDER = Path(__file__).parent / 'fixtures/peft'
SIZES = dict(img_size=32, embed_dim=16, depth=4, num_heads=2)
EXPECTED = torch.load(FOLDER / 'expected.pth')


def network(classes: int = 3) -> nn.Module:
    made = timm.create_model('vit_tiny_patch16_224', num_classes=classes, **SIZES)
    made.load_state_dict({key: value for key, value in EXPECTED['network'].items() if classes or 'head' not in key})
    return made.eval()


def changed(tmp_path: Path, **settings: Any) -> Path:
    folder = Path(shutil.copytree(FOLDER, tmp_path / 'changed'))
    config = json.loads((folder / 'adapter_config.json').read_text())
    (folder / 'adapter_config.json').write_text(json.dumps(config | settings))
    return folder


def test_loads_what_peft_saved() -> None:
    model = protuning_mm.load_peft(network(), FOLDER).eval()
    with torch.no_grad():
        assert relative_error(model(EXPECTED['image']), EXPECTED['logits']) < 1e-5
        plain = network()(EXPECTED['image'])
    assert relative_error(plain, EXPECTED['logits']) > 0.1
    trained = {name for name, param in model.named_parameters() if param.requires_grad}
    assert trained and all('.lora.' in name or name.startswith('head') for name in trained)


def test_saves_what_peft_saved(tmp_path: Path) -> None:
    protuning_mm.save_peft(protuning_mm.load_peft(network(), FOLDER), tmp_path / 'saved')
    ours, theirs = (load_file(folder / 'adapter_model.safetensors') for folder in (tmp_path / 'saved', FOLDER))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    config = json.loads((tmp_path / 'saved/adapter_config.json').read_text())
    assert (config['r'], config['lora_alpha'], config['modules_to_save']) == (2, 6, ['head'])
    assert config['target_modules'] == sorted(
        f'blocks.{i}.{name}' for i in range(4) for name in ('attn.qkv', 'mlp.fc1')
    )
    again = protuning_mm.load_peft(network(), tmp_path / 'saved').eval()
    with torch.no_grad():
        assert relative_error(again(EXPECTED['image']), EXPECTED['logits']) < 1e-5


def test_backbone_without_a_head() -> None:
    backbone = protuning_mm.load_peft(network(classes=0), FOLDER).eval()
    head = {key: value for key, value in load_file(FOLDER / 'adapter_model.safetensors').items() if 'head' in key}
    weight, bias = (head[f'base_model.model.head.{name}'] for name in ('weight', 'bias'))
    with torch.no_grad():
        (feature,) = backbone(EXPECTED['image'])
        assert relative_error(feature @ weight.T + bias, EXPECTED['logits']) < 1e-5


def test_rank_stabilized(tmp_path: Path) -> None:
    """PEFT then scales by alpha / √rank."""
    model = protuning_mm.load_peft(network(), changed(tmp_path, use_rslora=True))
    (update, *_) = model.backbone.tunings[0].added.values()
    assert update.scale == pytest.approx(6 / 2**0.5)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(peft_type='IA3'), "holds 'IA3'; only LORA can be loaded"),
        (dict(use_dora=True), 'use_dora=True of PEFT is not supported'),
        (dict(bias='all'), "bias='all' of PEFT is not supported"),
        (dict(init_lora_weights='pissa_niter_4'), "init_lora_weights='pissa_niter_4', which changes the network's own"),
        (dict(rank_pattern=dict(fc1=8)), 'rank_pattern=.* of PEFT is not supported'),
    ],
)
def test_other_methods_are_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        protuning_mm.load_peft(network(), changed(tmp_path, **settings))


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match='has no adapter_config.json and no adapter_model.safetensors'):
        protuning_mm.load_peft(network(), tmp_path)
    folder = changed(tmp_path)
    state = load_file(folder / 'adapter_model.safetensors')
    key = 'base_model.model.blocks.0.mlp.fc1.lora_B.weight'
    model = protuning_mm.load_peft(network(), FOLDER)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for wrong, message in (
        ({k: v for k, v in state.items() if k != key}, 'blocks.0.mlp.fc1.lora_B.weight is missing, 1 in all'),
        (state | {key: state[key][:5].clone()}, r'has the shape \(5, 2\), not \(64, 2\)'),
        (
            state | {'base_model.model.blocks.9.x.lora_A.weight': state[key].clone()},
            'blocks.9.x.lora_A.weight fits no layer',
        ),
    ):
        save_file({k: v.contiguous() for k, v in wrong.items()}, folder / 'adapter_model.safetensors')
        with pytest.raises(CheckpointError, match=message):
            protuning_mm.load_peft(model, folder)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    with pytest.raises(CheckpointError, match='one LoRA of one network, but the model has pro'):
        protuning_mm.save_peft(protuning_mm.tune(network(), 'pro'), tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_targets() -> None:
    model = protuning_mm.tune(network(), dict(type='lora', rank=1, targets=['attn.qkv', 'fc2']))
    assert sorted(model.backbone.tunings[0].tapped_paths.values()) == sorted(
        f'blocks.{i}.{name}' for i in range(4) for name in ('attn.qkv', 'mlp.fc2')
    )
    with pytest.raises(ValueError, match="'query' is the name of no linear layer .* there are qkv, proj, fc1, fc2"):
        protuning_mm.tune(network(), dict(type='lora', targets=['query']))
