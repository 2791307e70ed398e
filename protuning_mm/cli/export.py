"""``tools/model_converters/export.py``: export a task to TorchScript, ``torch.export`` or ONNX, and check the file."""

import argparse
import warnings
from collections.abc import Callable, Sequence
from math import isnan
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.runner import load_checkpoint
from torch import Tensor, nn

from protuning_mm.backbones import tuned_backbones
from protuning_mm.cli.command import command
from protuning_mm.cli.export_detector import Detection, compare_boxes, find_detection, is_one_stage, trace_detector
from protuning_mm.cli.export_parts import ExportError, select_part
from protuning_mm.cli.export_two_stage import TwoStageDetection, is_two_stage
from protuning_mm.cli.flags import add_cfg_options, at_least
from protuning_mm.engine.build_model import build_model
from protuning_mm.engine.config import read_config
from protuning_mm.frozen import release
from protuning_mm.weights import CheckpointError

TOLERANCE = 1e-4
_DYNAMIC = {'none': (), 'batch': (0,), 'size': (0, 2, 3)}  # dimensions that may vary
Run = Callable[[Tensor], list[Tensor]]


def load_model(cfg: Config, checkpoint: str) -> nn.Module:
    """Build and load a config's model on the CPU, in eval mode and without memory-efficient execution.

    Args:
        cfg (Config): The config.
        checkpoint (str): A whole checkpoint or a delta.

    Raises:
        CheckpointError: the file is missing or damaged, or does not fit the model.
    """
    model = revert_sync_batchnorm(build_model(cfg))
    try:
        load_checkpoint(model, checkpoint, map_location='cpu', strict=True)
    except CheckpointError:
        raise
    except RuntimeError as error:
        raise CheckpointError(f"{checkpoint} does not fit the config's model: {error}") from None
    for backbone in tuned_backbones(model).values():  # exporters do not support our autograd functions
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
    dynamic: str | None = None,
    preprocessing: bool = False,
    opset: int | None = None,
) -> float:
    """Export a model or its backbone, and keep the file only if its outputs match the model's.

    Args:
        model (nn.Module): A segmentor, classifier or detector of the hosts, as :func:`load_model` returns it.
        out (str | Path): The file to write: ``.ts`` or ``.pt`` (TorchScript), ``.pt2`` (``torch.export``) or ``.onnx``.
        part (str): ``model``: the logits, (N, classes, H, W) of a segmentor or (N, classes) of a classifier.
            Of a detector: boxes (M, 4), scores (M,) and labels (M,) of one image, and masks (M, h, w) if it has a
            mask head. ``backbone``: the features that feed the neck. Defaults to ``model``.
        size (tuple[int, int]): Height and width of the input. Defaults to (512, 512).
        dynamic (str): What may vary in the input of the exported model: ``none``, ``batch``, or ``size`` (batch size,
            height and width). Defaults to ``batch``, and for the boxes of a detector to ``none``, the only choice.
        preprocessing (bool): Whether the input is a BGR image with values of 0 to 255, which the graph normalizes,
            instead of a normalized image. Defaults to False.
        opset (int, optional): ONNX's operator set. Defaults to the exporter's.

    Returns:
        float: The largest difference of an output, on an input that the exporter has not seen. It is relative to the
        largest value of that output if that is above 1. It is nan if a detector finds no box to
        compare in that input.

    Raises:
        ExportError: the file extension, part or size is not supported, the exporter fails, or the outputs differ by
            more than 1e-4. No file is written then.
    """
    out = Path(out)
    if out.suffix not in FORMATS:
        raise ExportError(f'{out}: the file extension selects the format and must be one of {", ".join(FORMATS)}')
    detects = part == 'model' and (is_one_stage(model) or is_two_stage(model))
    if detects and (dynamic not in (None, 'none') or out.suffix == '.pt2'):
        raise ExportError(
            'the boxes of a detector can be exported for one image of one size, to TorchScript or ONNX: remove '
            '--dynamic, and name a file that ends in .ts or .onnx'
        )
    dynamic = dynamic or ('none' if detects else 'batch')
    detection = (TwoStageDetection if is_two_stage(model) else Detection)(model) if detects else None
    module = select_part(model, part, preprocessing, detection)
    scale = 255.0 if preprocessing else 1.0
    seen = scale * torch.rand(1 if detects else 2, 3, *size)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f'.{out.stem}.part{out.suffix}')
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter('ignore')  # deprecation warnings of torch's exporters
            write = _DETECTOR_FORMATS if detects else FORMATS
            run = write[out.suffix](module, seen, temporary, _DYNAMIC[dynamic], opset)
            unseen = scale * torch.rand(*_other_shape(seen, dynamic))
            expected, got = module(unseen), run(unseen)
            difference = compare_boxes(expected, got, TOLERANCE) if detects else _largest_difference(expected, got)
            if not (detects and isnan(difference)):  # no box was found
                _check(difference, out)
        temporary.replace(out)
    finally:
        for left in out.parent.glob(f'{temporary.name}*'):  # large ONNX models have a second file
            left.unlink()
    return difference


def _other_shape(seen: Tensor, dynamic: str) -> tuple[int, ...]:
    n, c, h, w = seen.shape
    return (n if dynamic == 'none' else 3, c, *((h + 64, w + 32) if dynamic == 'size' else (h, w)))


def _largest_difference(expected: Sequence[Tensor], got: Sequence[Tensor]) -> float:
    """Return the largest difference of an output, relative to its largest value; infinite if the shapes differ."""
    if [tuple(t.shape) for t in expected] != [tuple(t.shape) for t in got]:
        return float('inf')
    return max(float((a - b).abs().max() / a.abs().max().clamp(min=1)) for a, b in zip(expected, got))


def _check(difference: float, out: Path) -> None:
    if difference == float('inf'):
        raise ExportError(f"{out}: the exported outputs have other shapes than the model's; no file was written")
    if not difference <= TOLERANCE:
        raise ExportError(
            f"{out}: the exported outputs differ from the model's by {difference:.2e}, more than {TOLERANCE:.0e}; "
            'no file was written'
        )


def _torchscript(module: nn.Module, seen: Tensor, path: Path, dynamic: Sequence[int], opset: int | None) -> Run:
    torch.jit.trace(module, (seen,), check_trace=False).save(str(path))
    loaded = torch.jit.load(str(path))
    return lambda x: list(loaded(x))


def _torch_export(module: nn.Module, seen: Tensor, path: Path, dynamic: Sequence[int], opset: int | None) -> Run:
    shapes = dict.fromkeys(dynamic, torch.export.Dim.DYNAMIC)
    try:
        program = torch.export.export(module, (seen,), dynamic_shapes=(shapes,))
    except Exception as error:  # exporters raise errors of many classes; the first line gives the reason
        raise _export_error('torch.export', error, dynamic) from error
    torch.export.save(program, path)
    loaded = torch.export.load(path).module()
    return lambda x: list(loaded(x))


def _import_onnxruntime() -> Any:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ExportError(
            f'ONNX needs the package {error.name}: pip install "protuning_mm[export]" (onnx, onnxruntime, onnxscript)'
        ) from None
    return onnxruntime


def _onnx(module: nn.Module, seen: Tensor, path: Path, dynamic: Sequence[int], opset: int | None) -> Run:
    onnxruntime = _import_onnxruntime()
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
        raise _export_error('the ONNX exporter', error, dynamic) from error
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    return lambda x: [torch.from_numpy(y) for y in session.run(None, {'image': x.numpy()})]


def _detector_torchscript(
    module: nn.Module, seen: Tensor, path: Path, dynamic: Sequence[int], opset: int | None
) -> Run:
    import torchvision  # noqa: F401 – registers the operator of NMS

    try:
        trace_detector(module, seen).save(str(path))
    except Exception as error:
        raise _export_error('torch.jit.trace', error, dynamic) from error
    loaded = torch.jit.load(str(path))
    return lambda x: list(loaded(x))


def _detector_onnx(module: nn.Module, seen: Tensor, path: Path, dynamic: Sequence[int], opset: int | None) -> Run:
    """Write ONNX with torch's exporter of traces: the newer one cannot export indices that depend on the data."""
    onnxruntime = _import_onnxruntime()
    detection = find_detection(module)
    if opset is not None and opset < detection.least_opset:
        raise ExportError(f'--opset {opset}: this detector needs operator set {detection.least_opset} or later')
    names = detection.outputs
    try:
        traced = trace_detector(module, seen)
        torch.onnx.export(
            traced, (seen,), str(path), dynamo=False, opset_version=opset, input_names=['image'], output_names=names
        )
    except Exception as error:
        raise _export_error('the ONNX exporter', error, dynamic) from error
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    return lambda x: [torch.from_numpy(y) for y in session.run(None, {'image': x.numpy()})]


def _export_error(exporter: str, error: Exception, dynamic: Sequence[int]) -> ExportError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    advice = '; try --dynamic batch or none' if 2 in dynamic else ''
    return ExportError(f'{exporter} cannot export this model: {lines[0]}{advice}')


_DETECTOR_FORMATS = {'.ts': _detector_torchscript, '.pt': _detector_torchscript, '.onnx': _detector_onnx}
FORMATS = {'.ts': _torchscript, '.pt': _torchscript, '.pt2': _torch_export, '.onnx': _onnx}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Export one task to TorchScript, torch.export or ONNX')
    parser.add_argument('config', help='path of the config')
    parser.add_argument('checkpoint', help='path of the whole checkpoint or delta')
    parser.add_argument('out', help='file to write: .ts or .pt (TorchScript), .pt2 (torch.export), .onnx')
    part = 'part to export; defaults to model. Of a detector with queries, only the backbone can be exported'
    parser.add_argument('--part', choices=('model', 'backbone'), default='model', help=part)
    size = 'height and width of the input; defaults to 512 512'
    parser.add_argument('--size', type=at_least(1), nargs=2, default=(512, 512), metavar=('H', 'W'), help=size)
    dynamic = 'what may vary in the input: nothing, the batch size (the default), or batch size, height and width; the '
    dynamic += 'boxes of a detector are of one image of one size'
    parser.add_argument('--dynamic', choices=tuple(_DYNAMIC), help=dynamic)
    preprocessing = 'take BGR images with values of 0 to 255, and normalize them in the graph'
    parser.add_argument('--with-preprocessing', action='store_true', help=preprocessing)
    parser.add_argument('--opset', type=at_least(1), help="ONNX's operator set; defaults to the exporter's")
    add_cfg_options(parser)
    return parser.parse_args(argv)


@command
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    model = load_model(read_config(args.config, args.cfg_options), args.checkpoint)
    size = (args.size[0], args.size[1])
    difference = export(model, args.out, args.part, size, args.dynamic, args.with_preprocessing, args.opset)
    if isnan(difference):
        compared = 'the random image of the check has no boxes of different scores, so none was compared'
    else:
        compared = f'largest difference {difference:.1e}'
    print(f'{args.out}: {Path(args.out).stat().st_size / 1e6:.1f} MB, {compared}')


if __name__ == '__main__':
    main()
