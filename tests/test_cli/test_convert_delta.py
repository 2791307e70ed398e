"""extract_delta.py, merge_delta.py and inspect_delta.py: exact round trips, error messages and the listing."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor

from protuning_mm.cli.convert_delta import main_extract, main_merge
from protuning_mm.cli.inspect_delta import main as main_inspect
from protuning_mm.engine.build_model import build_model
from protuning_mm.version import __version__
from protuning_mm.weights import load_checkpoint_file
from protuning_mm.weights.checksum import SEALED_BY
from protuning_mm.weights.deltas import RECORD
from protuning_mm.weights.fingerprint import fingerprint
from tests.mini import CLASSES, REPO, write_config
from tests.mini import MODELS as CONFIGS
from tests.plain import assert_identical, fill, snapshot


def write_whole(config: Path, ema: bool = True) -> Path:
    """Write a checkpoint as a run does: trained values, an optimizer, an average of the model, logs."""
    model = build_model(Config.fromfile(config))
    model.init_weights()
    frozen = {k: v.clone() for k, v in model.backbone.frozen_tensors().items()}
    fill(model)
    for key, tensor in model.backbone.frozen_tensors().items():
        tensor.copy_(frozen[key])
    state = snapshot(model)
    meta = dict(epoch=4, iter=80, dataset_meta=dict(classes=CLASSES), seed=3)
    content = dict(
        state_dict=state, meta=meta, optimizer=dict(state={0: dict(step=torch.tensor(5.0))}, param_groups=[])
    )
    if ema:
        averages = {f'module.{k}': v if k[9:] in frozen else v + 1 for k, v in state.items()}
        content['ema_state_dict'] = {'steps': torch.tensor(9), **averages}
    torch.save(content, config.parent / 'whole.pth')
    return config.parent / 'whole.pth'


def same(got: Any, expected: Any) -> bool:
    if isinstance(expected, Tensor):
        return torch.equal(got, expected) and got.dtype == expected.dtype
    if isinstance(expected, dict):
        return list(got) == list(expected) and all(same(got[k], expected[k]) for k in expected)
    return got == expected


@pytest.mark.parametrize(
    'model', ['upernet', *(pytest.param(m, marks=pytest.mark.slow) for m in CONFIGS if m != 'upernet')]
)
def test_extract_and_merge(model: str, tmp_path: Path) -> None:
    """Whole checkpoint -> delta -> whole checkpoint: the same tensors, settings and names in the same order."""
    config = write_config(model, tmp_path)
    whole = write_whole(config)
    main_extract([str(config), str(whole), str(tmp_path / 'delta.pth'), '--training-state'])
    delta = load_checkpoint_file(str(tmp_path / 'delta.pth'))
    stages = [k for k in delta['state_dict'] if k.startswith(('backbone.layer', 'backbone.stem', 'backbone.conv1'))]
    assert not stages and RECORD in delta['state_dict'] and f'module.{RECORD}' in delta['ema_state_dict']
    main_merge([str(config), str(tmp_path / 'delta.pth'), str(tmp_path / 'again.pth')])
    again = torch.load(tmp_path / 'again.pth')
    assert again['meta'].pop(SEALED_BY) == __version__  # the writer's version is not part of the content
    assert same(again, torch.load(whole))


@pytest.mark.parametrize('ending', ['.pth', '.safetensors'])
def test_deltas_for_inference(ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --training-state, a delta has only what inference needs, whether made of a checkpoint or a delta."""
    config = write_config('fcn', tmp_path)
    whole = write_whole(config)
    main_extract([str(config), str(whole), str(tmp_path / f'delta{ending}')])
    delta = load_checkpoint_file(str(tmp_path / f'delta{ending}'))
    assert set(delta) == {'state_dict', 'meta'} and delta['meta']['epoch'] == 4
    main_merge([str(config), str(tmp_path / f'delta{ending}'), str(tmp_path / f'again{ending}')])
    again = load_checkpoint_file(str(tmp_path / f'again{ending}'))
    assert_identical(again['state_dict'], torch.load(whole)['state_dict'])
    main_extract([str(config), str(whole), str(tmp_path / 'training.pth'), '--training-state'])
    main_extract([str(config), str(tmp_path / 'training.pth'), str(tmp_path / f'second{ending}')])
    second = load_checkpoint_file(str(tmp_path / f'second{ending}'))
    assert same(second['state_dict'], delta['state_dict'])
    assert 'MB (of' in capsys.readouterr().out


def test_fold_into_a_plain_model(tmp_path: Path) -> None:
    """``--fold``: mmseg's own segmentor, without our classes, computes the same as the tuned one."""
    config = write_config('fcn', tmp_path, extra="\nmodel['backbone']['tuning'] = dict(type='lora', rank=2)\n")
    whole = write_whole(config, ema=False)
    main_extract([str(config), str(whole), str(tmp_path / 'delta.pth')])
    main_merge([str(config), str(tmp_path / 'delta.pth'), str(tmp_path / 'plain.pth'), '--fold'])
    tuned = build_model(Config.fromfile(config)).eval()
    tuned.load_state_dict(torch.load(whole)['state_dict'])
    cfg = Config.fromfile(config)
    for key in ('tuning', 'prompt', 'prompt_stages', 'allow_random_backbone'):
        cfg.model.backbone.pop(key, None)
    cfg.model.backbone.type = 'ResNet'
    plain = build_model(cfg).eval()
    plain.load_state_dict(torch.load(tmp_path / 'plain.pth')['state_dict'], strict=True)
    x = torch.randn(1, 3, 64, 64)
    expected, got = tuned(x), plain(x)
    assert float((got - expected).abs().max() / expected.abs().max()) <= 1e-5


def test_prompts_cannot_be_folded(tmp_path: Path) -> None:
    config = write_config('fcn', tmp_path)
    main_extract([str(config), str(write_whole(config)), str(tmp_path / 'delta.pth')])
    with pytest.raises(SystemExit, match='pro cannot be merged'):
        main_merge([str(config), str(tmp_path / 'delta.pth'), str(tmp_path / 'plain.pth'), '--fold'])
    assert not (tmp_path / 'plain.pth').exists()


def test_refusals(tmp_path: Path) -> None:
    config = write_config('fcn', tmp_path)
    whole = write_whole(config)
    out = tmp_path / 'out.pth'

    def refused(main: Any, *args: object) -> str:
        with pytest.raises(SystemExit) as caught:
            main([str(arg) for arg in args])
        assert not out.exists()
        return str(caught.value)

    assert 'does not exist' in refused(main_extract, config, tmp_path / 'none.pth', out)
    assert 'there is no config' in refused(main_extract, tmp_path / 'none.py', whole, out)
    assert 'must end in .pth or .safetensors' in refused(main_extract, config, whole, out.with_suffix('.bin'))
    assert 'is not a delta' in refused(main_merge, config, whole, out)
    content = torch.load(whole)
    content['state_dict']['backbone.layer2.0.conv1.weight'][0] += 1
    torch.save(content, tmp_path / 'trained.pth')
    message = refused(main_extract, config, tmp_path / 'trained.pth', out)
    assert 'was not trained on' in message and 'layer2.0.conv1.weight' in message and 'resnet18v1c.pth' in message
    del content['state_dict']['decode_head.conv_seg.bias']
    torch.save(content, tmp_path / 'less.pth')
    assert 'decode_head.conv_seg.bias' in refused(main_extract, config, tmp_path / 'less.pth', out)
    other = write_config('upernet', tmp_path)
    assert "does not fit the config's model" in refused(main_extract, other, whole, out)


def test_base_flag(tmp_path: Path) -> None:
    """``--base`` replaces the file in the config, and must be the same network."""
    config = write_config('fcn', tmp_path)
    whole = write_whole(config)
    moved = (tmp_path / 'resnet18v1c.pth').rename(tmp_path / 'elsewhere.pth')
    main_extract([str(config), str(whole), str(tmp_path / 'delta.pth'), '--base', str(moved)])
    torch.save({k: v + 1 for k, v in torch.load(moved).items()}, tmp_path / 'other.pth')
    merge = [str(config), str(tmp_path / 'delta.pth'), str(tmp_path / 'again.pth'), '--base']
    main_merge([*merge, str(tmp_path / 'elsewhere.pth')])
    assert_identical(torch.load(tmp_path / 'again.pth')['state_dict'], torch.load(whole)['state_dict'])
    moved.unlink()
    with pytest.raises(SystemExit, match='other.pth.*another network'):
        main_merge([*merge, str(tmp_path / 'other.pth')])


def test_inspect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config('upernet', tmp_path)
    whole = write_whole(config)
    main_extract([str(config), str(whole), str(tmp_path / 'delta.pth'), '--training-state'])
    capsys.readouterr()
    tool = [sys.executable, REPO / 'tools/model_converters/inspect_delta.py', tmp_path / 'delta.pth', '--json']
    info = json.loads(subprocess.run([*map(str, tool)], check=True, capture_output=True, text=True).stdout)
    frozen = torch.load(tmp_path / 'resnet18v1c.pth')
    assert info['bases']['backbone']['fingerprint'] == fingerprint(frozen).total
    assert info['bases']['backbone']['source'] == str(tmp_path / 'resnet18v1c.pth')
    assert info['bases']['backbone']['tuning'][0]['type'] == 'pro'
    assert info['dataset_meta'] == dict(classes=list(CLASSES)) and info['epoch'] == 4 and info['has_checksum']
    assert info['bytes'] == (tmp_path / 'delta.pth').stat().st_size
    state = torch.load(whole)['state_dict']
    sizes = {part['part']: (part['tensors'], part['bytes']) for part in info['contents']}
    for part in ('backbone.prompts', 'decode_head', 'auxiliary_head'):
        own = [t for name, t in state.items() if name.startswith(f'{part}.')]
        assert sizes[part] == (len(own), sum(t.nbytes for t in own))
    assert sizes['(optimizer)'] == (1, 4) and '(ema_state_dict)' in sizes
    main_inspect([str(tmp_path / 'delta.pth')])
    printed = capsys.readouterr().out
    assert 'base of backbone: ' in printed and 'pro(prompt_stages=[0, 1, 2, 3]' in printed and 'decode_head' in printed
    with pytest.raises(SystemExit, match='is not a delta'):
        main_inspect([str(whole)])
    with pytest.raises(SystemExit, match='does not exist'):
        main_inspect([str(tmp_path / 'none.pth')])


def test_extract_does_not_send_requests_to_foreign_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The config names no base, and the checkpoint's meta names a foreign address."""
    config = write_config('fcn', tmp_path)
    content = torch.load(write_whole(config, ema=False))
    path, bare = tmp_path / 'sent.pth', tmp_path / 'bare.py'
    bare.write_text(f"_base_ = '{config}'\nmodel = dict(pretrained=None, backbone=dict(init_cfg=None))\n")
    load, fetched = CheckpointLoader.load_checkpoint, []

    def spy(name: str, *args: Any, **kwargs: Any) -> Any:
        fetched.append(name)
        return load(name, *args, **kwargs)

    def extract(source: str) -> None:
        content['meta']['frozen_sources'] = dict(backbone=(source, None))
        torch.save(content, path)
        fetched.clear()
        main_extract([str(bare), str(path), str(tmp_path / 'delta.pth')])

    monkeypatch.setattr(CheckpointLoader, 'load_checkpoint', spy)
    for source in ('https://evil.org/x.pth', 'https://download.pytorch.org/../evil/x.pth', 's3://evil/x.pth'):
        with pytest.raises(SystemExit, match='not fetched.*--base') as caught:
            extract(source)
        assert source in str(caught.value) and fetched == [str(path)]
    extract(str(tmp_path / 'resnet18v1c.pth'))
    assert RECORD in load_checkpoint_file(str(tmp_path / 'delta.pth'))['state_dict']
