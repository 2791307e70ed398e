"""``tools/model_converters/export.py``: one task as TorchScript, ``torch.export`` or ONNX, checked first."""

import argparse
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.runner import load_checkpoint
from torch import Tensor, nn

from protuning_mm.backbones import tuned_backbones
from protuning_mm.cli.command import command
from protuning_mm.cli.export_parts import ExportError, exportable
from protuning_mm.cli.flags import add_cfg_options, at_least
from protuning_mm.engine.build_model import build_model
from protuning_mm.engine.config import read_config
from protuning_mm.frozen import release
from protuning_mm.weights import CheckpointError

FORMATS = {'.ts': 'torchscript', '.pt': 'torchscript', '.pt2': 'torch_export', '.onnx': 'onnx'}
TOLERANCE = 1e-4
_DYNAMIC = {'none': {}, 'batch': {0: 'batch'}, 'size': {0: 'batch', 2: 'height', 3: 'width'}}
Run = Callable[[Tensor], list[Tensor]]


def load_model(cfg: Config, checkpoint: str) -> nn.Module:
    """Build a config's model on the CPU in eval mode, of plain torch operations alone, from a checkpoint or a delta.

    Raises:
        CheckpointError: the file is missing or damaged, or does not fit the model.
    """
    if '://' not in checkpoint and not Path(checkpoint).is_file():
        raise CheckpointError(f'checkpoint {checkpoint!r} does not exist')
    model = revert_sync_batchnorm(build_model(cfg))
    try:
        load_checkpoint(model, checkpoint, map_location='cpu', strict=True)
    except CheckpointError:
        raise
    except RuntimeError as error:
        raise CheckpointError(f"{checkpoint} does not fit the config's model: {error}") from None
    for backbone in tuned_backbones(model).values():  # autograd functions of ours are no operations of an exporter
        release(backbone.plain)
        for tuning in backbone.tunings:
            tuning.efficient = False
    model.eval()
    return model


def export(
    model: nn.Module,
    out: str | Path,
    part: str = 'model',
    size: tuple[int, int] = (512, 512),
    dynamic: str = 'batch',
    preprocessing: bool = False,
    opset: int | None = None,
) -> float:
    """Export a model or its backbone; the file is kept only if it computes the same.

    Args:
        model (nn.Module): A segmentor, classifier or detector of the hosts, as :func:`load_model` returns it.
        out (str | Path): ``.ts`` or ``.pt`` (TorchScript), ``.pt2`` (``torch.export``) or ``.onnx``.
        part (str): ``model``: logits (N, classes, H, W) of a segmentor, (N, classes) of a classifier; ``backbone``: the
            features that feed the neck. Of a detector ``backbone`` alone. Defaults to ``model``.
        size (tuple[int, int]): Height and width of the input. Defaults to (512, 512).
        dynamic (str): What may differ later: ``none``, ``batch``, or ``size`` (batch, height and width). Defaults to
            ``batch``.
        preprocessing (bool): Take images of 0 to 255 in the order of OpenCV (BGR) and normalise them in the graph,
            instead of normalised input.
        opset (int, optional): ONNX's operator set. Defaults to the exporter's.

    Returns:
        float: The largest difference of an output on an input that the exporter has not seen; relative to the largest
        value of that output where it is above 1.

    Raises:
        ExportError: the ending, part or size cannot be exported, the exporter fails, or the outputs differ by more than
            1e-4. There is no file then.
    """
    out = Path(out)
    if out.suffix not in FORMATS:
        raise ExportError(f'{out}: the ending tells the format and must be one of {", ".join(FORMATS)}')
    kind = FORMATS[out.suffix]
    module = exportable(model, part, preprocessing)
    scale = 255.0 if preprocessing else 1.0
    seen = scale * torch.rand(2, 3, *size)
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.with_name(f'.{out.stem}.part{out.suffix}')
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter('ignore')  # deprecations within torch's exporters
            run = _WRITERS[kind](module, seen, aside, _DYNAMIC[dynamic], opset)
            fresh = scale * torch.rand(*_other_shape(seen, dynamic))
            difference = _difference(module(fresh), run(fresh), kind)
        aside.replace(out)
    finally:
        for left in out.parent.glob(f'{aside.name}*'):  # large ONNX models have a second file
            left.unlink()
    return difference


def _other_shape(seen: Tensor, dynamic: str) -> tuple[int, ...]:
    n, c, h, w = seen.shape
    return (n if dynamic == 'none' else 3, c, *((h + 64, w + 32) if dynamic == 'size' else (h, w)))


def _difference(expected: Sequence[Tensor], got: Sequence[Tensor], kind: str) -> float:
    if [tuple(t.shape) for t in expected] != [tuple(t.shape) for t in got]:
        raise ExportError(f'{kind}: the outputs have other shapes than the model gives; nothing was written')
    difference = max(float((a - b).abs().max() / a.abs().max().clamp(min=1)) for a, b in zip(expected, got))
    if not difference <= TOLERANCE:
        raise ExportError(
            f"{kind}: the exported outputs differ from the model's by {difference:.2e}, more than {TOLERANCE:.0e}; "
            'nothing was written'
        )
    return difference


def _torchscript(module: nn.Module, seen: Tensor, path: Path, dynamic: dict[int, str], opset: int | None) -> Run:
    torch.jit.trace(module, (seen,), check_trace=False).save(str(path))
    loaded = torch.jit.load(str(path))
    return lambda x: list(loaded(x))


def _torch_export(module: nn.Module, seen: Tensor, path: Path, dynamic: dict[int, str], opset: int | None) -> Run:
    shapes = dict.fromkeys(dynamic, torch.export.Dim.DYNAMIC)
    try:
        program = torch.export.export(module, (seen,), dynamic_shapes=(shapes,))
    except Exception as error:  # torch's exporters fail in many ways; each says why in its first line
        raise _failed('torch.export', error, dynamic) from error
    torch.export.save(program, path)
    loaded = torch.export.load(path).module()
    return lambda x: list(loaded(x))


def _onnx(module: nn.Module, seen: Tensor, path: Path, dynamic: dict[int, str], opset: int | None) -> Run:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ExportError(
            f'ONNX needs the package {error.name}: pip install "protuning_mm[export]" (onnx, onnxruntime, onnxscript)'
        ) from None
    shapes = dict.fromkeys(dynamic, torch.export.Dim.DYNAMIC)
    try:
        torch.onnx.export(
            module,
            (seen,),
            str(path),
            dynamo=True,
            dynamic_shapes=(shapes,),
            opset_version=opset,
            input_names=['image'],
            external_data=False,
            verbose=False,
        )
    except Exception as error:
        raise _failed('the ONNX exporter', error, dynamic) from error
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    return lambda x: [torch.from_numpy(y) for y in session.run(None, {'image': x.numpy()})]


def _failed(who: str, error: Exception, dynamic: dict[int, str]) -> ExportError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    advice = '; try --dynamic batch or none' if 2 in dynamic else ''
    return ExportError(f'{who} cannot export this model: {lines[0]}{advice}')


_WRITERS: dict[str, Callable[[nn.Module, Tensor, Path, dict[int, str], int | None], Run]] = {
    'torchscript': _torchscript,
    'torch_export': _torch_export,
    'onnx': _onnx,
}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Export one task as TorchScript, torch.export or ONNX')
    parser.add_argument('config', help='path of the config')
    parser.add_argument('checkpoint', help='path of the checkpoint or delta')
    parser.add_argument('out', help='file to write: .ts or .pt (TorchScript), .pt2 (torch.export), .onnx')
    parser.add_argument('--part', choices=('model', 'backbone'), default='model', help='of a detector: backbone alone')
    parser.add_argument('--size', type=at_least(1), nargs=2, default=(512, 512), metavar=('H', 'W'), help="the input's")
    parser.add_argument('--dynamic', choices=tuple(_DYNAMIC), default='batch', help='what may differ later')
    parser.add_argument('--with-preprocessing', action='store_true', help='take BGR images of 0 to 255')
    parser.add_argument('--opset', type=at_least(1), help="ONNX's operator set")
    add_cfg_options(parser)
    return parser.parse_args(argv)


@command
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    model = load_model(read_config(args.config, args.cfg_options), args.checkpoint)
    size = (args.size[0], args.size[1])
    difference = export(model, args.out, args.part, size, args.dynamic, args.with_preprocessing, args.opset)
    print(f'{args.out}: {Path(args.out).stat().st_size / 1e6:.1f} MB, largest difference {difference:.1e}')


if __name__ == '__main__':
    main()
