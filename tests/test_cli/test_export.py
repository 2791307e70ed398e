"""export.py: exported files compute the same as the model in their own runtimes, on input of other shapes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from protuning_mm import TunedBackbone
from protuning_mm.cli.convert_delta import extract_delta
from protuning_mm.cli.export import export, load_model, main
from protuning_mm.cli.export_parts import ExportError
from protuning_mm.engine.config import read_config
from tests.families import CELLS, FAMILIES, PLAIN_VITS, TUNING_CFGS
from tests.host_families import forget_checkpoints
from tests.mini import write_backbone, write_classifier, write_config
from tests.plain import fill
from tests.test_entry_points import save_checkpoint

ENDINGS = ['.ts', '.pt2', '.onnx']


def run(path: Path, x: Tensor) -> list[Tensor]:
    """Run a file in the runtime of its format."""
    if path.suffix == '.onnx':
        session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
        return [torch.from_numpy(y) for y in session.run(None, {'image': x.numpy()})]
    loaded = torch.jit.load(str(path)) if path.suffix == '.ts' else torch.export.load(path).module()
    return list(loaded(x))


def close(got: list[Tensor], expected: Any) -> bool:
    expected = [expected] if isinstance(expected, Tensor) else list(expected)
    assert [t.shape for t in got] == [t.shape for t in expected]
    return all(float((a - b).abs().max()) <= 1e-4 * max(1, float(b.abs().max())) for a, b in zip(got, expected))


def trained(config: Path) -> tuple[Path, nn.Module]:
    """Return a checkpoint whose prompts are not the identity, and the model loaded from it."""
    checkpoint = save_checkpoint(config)
    model = load_model(Config.fromfile(config), str(checkpoint))
    return checkpoint, model


def slow_but(quick: str) -> list[Any]:
    return [pytest.param(ending, marks=[] if ending == quick else pytest.mark.slow) for ending in ENDINGS]


@pytest.mark.parametrize(
    ('model', 'ending'),
    [
        pytest.param(model, ending, marks=[] if (model, ending) == ('upernet', '.onnx') else pytest.mark.slow)
        for model in ('fcn', 'upernet')
        for ending in ENDINGS
    ],
)
def test_segmentor_whole(model: str, ending: str, tmp_path: Path) -> None:
    """Against whole inference of mmseg itself, through the command."""
    config = write_config(model, tmp_path)
    checkpoint, host = trained(config)
    out = tmp_path / f'model{ending}'
    main([str(config), str(checkpoint), str(out), '--size', '64', '96'])
    x = torch.randn(3, 3, 64, 96)
    metas = [dict(ori_shape=(64, 96), img_shape=(64, 96), pad_shape=(64, 96))] * 3
    with torch.no_grad():
        expected = host.encode_decode(x, metas)
    assert expected.shape == (3, 3, 64, 96)
    assert close(run(out, x), expected)


@pytest.mark.parametrize('ending', slow_but('.ts'))
def test_classifier_whole(ending: str, tmp_path: Path) -> None:
    """From a delta, as from any checkpoint."""
    base = write_backbone(tmp_path / 'b.pth', 'mmpretrain', stem_channels=8)
    config = write_classifier(tmp_path / 'classifier.py', base)
    checkpoint, host = trained(config)
    extract_delta(Config.fromfile(config), str(checkpoint), tmp_path / 'delta.pth')
    out = tmp_path / f'model{ending}'
    main([str(config), str(tmp_path / 'delta.pth'), str(out), '--size', '64', '64'])
    x = torch.randn(5, 3, 64, 64)
    with torch.no_grad():
        assert close(run(out, x), host(x, mode='tensor'))


@pytest.mark.slow
def test_with_preprocessing(tmp_path: Path) -> None:
    """An image as OpenCV reads it, against the host's own preprocessor."""
    config = write_config('fcn', tmp_path)
    checkpoint, host = trained(config)
    main([str(config), str(checkpoint), str(tmp_path / 'm.onnx'), '--size', '64', '64', '--with-preprocessing'])
    image = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    host.data_preprocessor.size = (64, 64)
    inputs = host.data_preprocessor(dict(inputs=[image]), False)['inputs']
    with torch.no_grad():
        expected = host.encode_decode(inputs, [dict(img_shape=(64, 64))])
    assert close(run(tmp_path / 'm.onnx', image[None].float()), expected)


@pytest.mark.parametrize('ending', slow_but('none'))
def test_any_size(ending: str, tmp_path: Path) -> None:
    config = write_config('fcn', tmp_path)
    checkpoint, host = trained(config)
    out = tmp_path / f'model{ending}'
    main([str(config), str(checkpoint), str(out), '--size', '64', '64', '--part', 'backbone', '--dynamic', 'size'])
    for shape in ((1, 3, 96, 64), (4, 3, 32, 160)):
        x = torch.randn(*shape)
        with torch.no_grad():
            assert close(run(out, x), host.backbone(x))


FRESH = """
import sys, torch
x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
outs = (torch.jit.load(sys.argv[1]) if sys.argv[1].endswith('.ts') else torch.export.load(sys.argv[1]).module())(x)
assert not {'protuning_mm', 'mmengine', 'mmdet'} & set(sys.modules)
torch.save(list(outs), sys.argv[2])
"""


@pytest.mark.parametrize('ending', slow_but('.ts')[:2])
def test_backbone_of_a_detector_without_this_package(ending: str, tmp_path: Path) -> None:
    config = write_config('cascade', tmp_path)
    checkpoint, host = trained(config)
    out = tmp_path / f'model{ending}'
    main([str(config), str(checkpoint), str(out), '--size', '64', '64', '--part', 'backbone'])
    subprocess.run([sys.executable, '-c', FRESH, str(out), str(tmp_path / 'outs')], check=True, cwd=tmp_path)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert close(torch.load(tmp_path / 'outs'), host.backbone(x))


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write_config('cascade', tmp_path)
    checkpoint, _ = trained(config)

    def refused(*args: object) -> str:
        with pytest.raises(SystemExit) as caught:
            main([str(arg) for arg in args])
        return str(caught.value)

    assert 'must be one of .ts, .pt, .pt2, .onnx' in refused(config, checkpoint, tmp_path / 'm.engine')
    assert 'does not exist' in refused(config, tmp_path / 'none.pth', tmp_path / 'm.onnx')
    assert 'there is no config' in refused(tmp_path / 'none.py', checkpoint, tmp_path / 'm.onnx')
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    message = refused(config, checkpoint, tmp_path / 'm.onnx', '--part', 'backbone', '--size', '64', '64')
    assert 'pip install "protuning_mm[export]"' in message
    assert not [p.name for p in tmp_path.iterdir() if p.suffix in ('.onnx', '.engine')]


@pytest.mark.parametrize(
    ('name', 'config'),
    [
        ('DETR', 'mmdet::detr/detr_r50_8xb2-150e_coco.py'),
        ('Mask2Former', 'mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py'),
    ],
)
def test_detector_with_queries_is_refused(name: str, config: str, tmp_path: Path) -> None:
    init_default_scope('mmdet')
    cfg = read_config(config)
    forget_checkpoints(cfg.model)
    with pytest.raises(ExportError, match=f'{name} cannot be exported as a whole.*--part backbone.*mmdeploy'):
        export(MODELS.build(cfg.model), tmp_path / 'm.onnx')
    assert not list(tmp_path.iterdir())


class DifferentWhenExported(nn.Module):
    """Computes something else while it is exported."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x if torch.compiler.is_compiling() or torch.jit.is_tracing() else 3 * x


@pytest.mark.parametrize('ending', ENDINGS)
def test_file_with_different_outputs_is_not_kept(ending: str, tmp_path: Path) -> None:
    (tmp_path / f'm{ending}').write_text('previous file')
    model = nn.Module()
    model.backbone = DifferentWhenExported()
    with pytest.raises(ExportError, match="differ from the model's by"):
        export(model, tmp_path / f'm{ending}', part='backbone', size=(8, 8), dynamic='none')
    assert [p.name for p in tmp_path.iterdir()] == [f'm{ending}']
    assert (tmp_path / f'm{ending}').read_text() == 'previous file'


def family_tunings() -> list[Any]:
    """Return every tuning of a convolutional network and two transformers."""
    families = ('mmdet.ResNet50', 'mmpretrain.ViT', 'mmdet.Swin')
    quick = {('mmpretrain.ViT', 'pro')}
    cells = [cell for cell in CELLS if cell[0] in families]
    return [pytest.param(*cell, marks=[] if cell in quick else pytest.mark.slow) for cell in cells]


@pytest.mark.parametrize(('family', 'tuning'), family_tunings())
def test_every_tuning(family: str, tuning: str, tmp_path: Path) -> None:
    model = nn.Module()
    model.backbone = TunedBackbone(dict(FAMILIES[family]), TUNING_CFGS[tuning], efficient_frozen=False)
    fill(model)
    for name, param in model.named_parameters():
        if name.endswith('.b.weight') and tuning == 'lora':  # otherwise the values grow to 1e29 over fifty layers
            param.data *= 0.1
    side = 32 if family in PLAIN_VITS else 64
    for ending in ('.pt2', '.onnx'):
        export(model.eval(), tmp_path / f'm{ending}', part='backbone', size=(side, side), dynamic='none')
        x = torch.randn(2, 3, side, side)
        with torch.no_grad():
            assert close(run(tmp_path / f'm{ending}', x), model.backbone(x))
