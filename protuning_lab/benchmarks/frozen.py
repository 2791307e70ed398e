"""``tools/analysis_tools/benchmark_frozen.py``: memory and time of frozen execution, beside other ways to train."""

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from protuning_lab.benchmarks.earlier import compare, comparison_table
from protuning_lab.benchmarks.models import CHECKPOINTED, EFFICIENT, HOST, INT8, MODELS_OF, PLAIN, RECOMPUTE, build_step
from protuning_lab.benchmarks.report import machine, plot, table
from protuning_lab.measure import (
    Stopwatch,
    interleaved_times,
    kept_by_operation,
    kept_memory,
    peak_memory,
)
from protuning_mm.backbones import TunedBackbone
from protuning_mm.cli.command import command
from protuning_mm.cli.flags import add_device, at_least
from protuning_mm.weights.atomic import write_atomically

# the backbones of docs/performance.md, in their hosts' words; --depth belongs to the first
BACKBONES: dict[str, dict[str, Any]] = {
    'resnet': dict(type='mmdet.ResNet', depth=50),
    'resnext50': dict(type='mmdet.ResNeXt', depth=50, groups=32, base_width=4),
    'regnetx': dict(type='mmdet.RegNet', arch='regnetx_3.2gf'),
    'resnet50_d8': dict(
        type='mmseg.ResNetV1c', depth=50, dilations=(1, 1, 2, 4), strides=(1, 2, 1, 1), contract_dilation=True
    ),
    'swin_s': dict(type='mmdet.SwinTransformer', depths=(2, 2, 18, 2)),
    'swin_s_cp': dict(type='mmdet.SwinTransformer', depths=(2, 2, 18, 2), with_cp=True),
    'deit_s': dict(
        type='mmpretrain.VisionTransformer',
        arch='deit-s',
        out_indices=(2, 5, 8, 11),
        out_type='featmap',
        final_norm=False,
    ),
    'swin_t': dict(type='mmdet.SwinTransformer'),
    'vit_s': dict(type='timm', model_name='vit_small_patch16_224', out_indices=(0, 1, 2, 3)),
    'dinov3_s': dict(type='timm', model_name='vit_small_patch16_dinov3', out_indices=(0, 1, 2, 3)),
    'convnext_t': dict(type='timm', model_name='convnext_tiny', out_indices=(0, 1, 2, 3)),
    'efficientnet_lite0': dict(type='timm', model_name='tf_efficientnet_lite0', out_indices=(1, 2, 3, 4)),
    'mobilenetv2': dict(type='mmdet.MobileNetV2', out_indices=(1, 2, 4, 7)),
    'mobilenetv3': dict(type='timm', model_name='mobilenetv3_large_100', out_indices=(1, 2, 3, 4)),
}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Memory and time of frozen execution, beside other ways to train, in one process, interleaved',
        epilog='example: benchmark_frozen.py --depth 50 --size 512 512 --rounds 7 --json r50.json --plot r50.png',
    )
    parser.add_argument('--backbone', choices=list(BACKBONES), default='resnet', help='default: resnet')
    parser.add_argument('--depth', type=at_least(1), default=50, help='of a resnet; default: 50')
    parser.add_argument('--models', nargs='+', choices=list(MODELS_OF), help='whole models in the place of a backbone')
    parser.add_argument(
        '--size', type=at_least(1), nargs=2, default=(512, 512), metavar=('H', 'W'), help='default: 512 512'
    )
    parser.add_argument('--batch', type=at_least(1), default=2, help='images a step; default: 2')
    parser.add_argument('--dtype', choices=['float32', 'bfloat16', 'float16'], default='float32', help='else: autocast')
    add_device(parser)
    parser.add_argument(
        '--rounds', type=at_least(0), default=5, help='timed rounds; default: 5. 0 measures memory alone'
    )
    parser.add_argument('--methods', nargs='+', help='only methods whose names begin so')
    parser.add_argument('--channels-last', action='store_true', help='images and weights with channels last')
    parser.add_argument('--compile', action='store_true', help='torch.compile every method')
    parser.add_argument('--fit', type=float, metavar='GIB', help='also the largest batch whose peak is below this')
    parser.add_argument('--by-operation', action='store_true', help='also what is kept, by the operation that keeps it')
    parser.add_argument(
        '--against',
        metavar='COMMIT',
        help="only compare with a commit's frozen execution, in turn; needs git's history",
    )
    parser.add_argument('--json', type=Path, help='write everything that was measured here')
    parser.add_argument('--plot', type=Path, help='draw memory and time here (PNG)')
    args = parser.parse_args(argv)
    if args.against:
        unused = [
            flag for flag in ('models', 'methods', 'compile', 'fit', 'by_operation', 'plot') if getattr(args, flag)
        ]
        if unused or args.dtype != 'float32' or not args.rounds:
            given = f'--{unused[0].replace("_", "-")}' if unused else '--rounds 0' if not args.rounds else '--dtype'
            parser.error(f'--against times a backbone in float32: leave out {given}')
    args.device = torch.device(args.device)
    return args


def methods(backbone: dict[str, Any]) -> dict[str, Callable[[], nn.Module]]:
    """What is compared, by the names in the table."""

    def tuned(tuning: Any, efficient: bool | str = True) -> Callable[[], nn.Module]:
        return lambda: TunedBackbone(backbone, tuning, allow_random_backbone=True, efficient_frozen=efficient)

    found: dict[str, Callable[[], nn.Module]] = {'full fine-tuning': tuned('full')}
    if 'VisionTransformer' not in backbone['type'] and backbone['type'] != 'timm':
        norm_eval = {} if 'Swin' in backbone['type'] else dict(norm_eval=True)
        found[HOST] = lambda: MODELS.build(dict(backbone, frozen_stages=1, **norm_eval))
    found |= {
        PLAIN: tuned('pro', efficient=False),
        EFFICIENT: tuned('pro'),
        INT8: tuned('pro', efficient='int8'),
        RECOMPUTE: tuned('pro', efficient='recompute'),
        CHECKPOINTED: lambda: checkpointed(tuned('pro', efficient=False)()),
        'Partial-1': tuned(dict(type='partial', k=1)),
        'bias': tuned('bias'),
        'ladder': tuned('ladder'),
        'linear': tuned('linear'),
    }
    if backbone['type'] != 'timm':  # the host libraries do not build a timm model with these arguments
        found['no tuning, host'] = lambda: MODELS.build(dict(backbone)).requires_grad_(False)
    return found


def checkpointed(net: Any) -> nn.Module:
    """Let each stage of a tuned backbone save its input alone, by torch's checkpointing."""
    for stage in net.structure.stages:
        for path in stage.modules:
            part = net.plain.get_submodule(path)
            part.forward = partial(checkpoint, part.forward, use_reentrant=False)
    return net


def prepared(build: Callable[[], nn.Module], args: argparse.Namespace) -> nn.Module:
    """A method's network, the same weights in each, prompts that are not zero, in training mode."""
    torch.manual_seed(0)
    net = build()
    generator = torch.Generator().manual_seed(0)
    for name, tensor in net.state_dict().items():
        if 'running_var' in name:
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
        elif name.endswith('expand.weight'):
            tensor.copy_(0.02 * torch.randn(tensor.shape, generator=generator))
        elif name.endswith(('gamma', 'gamma_1', 'gamma_2')):  # initially next to zero, which hides a block's gradient
            tensor.fill_(0.3)
    net.to(args.device)
    if args.channels_last:
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    net.train()
    return net


class Run:
    """One method's network and the steps that are measured.

    Args:
        net (nn.Module): The network.
        args (Namespace): The command's arguments.
        loss (Callable, optional): Maps the network to its loss. Defaults to the mean of every output, for an image.
    """

    def __init__(self, net: nn.Module, args: argparse.Namespace, loss: Callable[[], Tensor] | None = None) -> None:
        self.net = net
        self.args = args
        self.loss = loss
        self.run: Any = torch.compile(net) if args.compile else net
        self.batch = args.batch

    def image(self) -> Tensor:
        image = torch.randn(self.batch, 3, *self.args.size, generator=torch.Generator().manual_seed(1))
        image = image.to(self.args.device)
        return image.contiguous(memory_format=torch.channels_last) if self.args.channels_last else image

    def forward(self, image: Tensor | None) -> Any:
        low = self.args.dtype != 'float32'
        with torch.autocast(self.args.device.type, getattr(torch, self.args.dtype) if low else None, enabled=low):
            return self.loss() if self.loss is not None else self.run(image)

    def step(self) -> dict[str, float]:
        """One training step without the optimizer; seconds of its parts."""
        image = None if self.loss is not None else self.image()
        self.net.zero_grad(set_to_none=True)
        watch = Stopwatch(self.args.device)
        outs = self.forward(image)
        forward = watch.look()
        loss: Any = outs if isinstance(outs, Tensor) else sum(out.mean() for out in _maps(outs))
        if loss.requires_grad:
            loss.backward()
        del outs, loss
        backward = watch.look()
        self.net.zero_grad(set_to_none=True)
        return dict(forward=forward, backward=backward, step=forward + backward)

    def gradient(self) -> Tensor:
        """The gradients of all trained parameters in one vector, for a loss that weighs each output at random."""
        outs = self.forward(self.image())
        generator = torch.Generator().manual_seed(2)
        weights = [torch.randn(out.shape, generator=generator).to(out) for out in _maps(outs)]
        self.net.zero_grad(set_to_none=True)
        torch.stack([(out * weight).mean() for out, weight in zip(_maps(outs), weights)]).sum().backward()
        found = torch.cat([p.grad.flatten() for p in self.net.parameters() if p.grad is not None])
        self.net.zero_grad(set_to_none=True)
        return found

    def evaluate(self) -> dict[str, float]:
        """One forward pass; the network is in evaluation mode already, or weights would be folded anew each time."""
        image = self.image()
        with torch.no_grad():
            watch = Stopwatch(self.args.device)
            self.forward(image)
            return dict(evaluation=watch.look())

    def peak(self, batch: int | None = None) -> float:
        """Peak of a step in MiB, the image aside."""
        self.batch = batch or self.args.batch
        try:
            return peak_memory(self.step, self.args.device)
        finally:
            self.batch = self.args.batch

    def kept(self) -> float:
        """What a forward pass keeps, in MiB."""
        image = None if self.loss is not None else self.image()
        return kept_memory(lambda: self.forward(image), self.net)

    def kept_by_operation(self) -> dict[str, float]:
        """What a forward pass keeps, in MiB, by the operation that keeps it."""
        outs = self.forward(None if self.loss is not None else self.image())
        return kept_by_operation([outs] if isinstance(outs, Tensor) else _maps(outs), self.net)

    def largest_batch(self, gib: float) -> int:
        """The largest batch whose step's peak and weights stay below ``gib``."""
        weights = sum(t.nbytes for t in (*self.net.parameters(), *self.net.buffers())) / 2**20

        def fits(batch: int) -> bool:
            try:
                return self.peak(batch) + weights <= gib * 1024
            except torch.OutOfMemoryError:
                return False

        low, high = 0, 1
        while fits(high):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return low


def _maps(outs: Any) -> list[Tensor]:
    return [out for out in (outs if isinstance(outs, tuple | list) else (outs,)) if isinstance(out, Tensor)]


def measure(runs: dict[str, Run], args: argparse.Namespace, evaluate: bool) -> dict[str, dict[str, Any]]:
    """Times of evaluation, as in a process that does nothing else; memory of each; times of training steps, in turn."""
    rows: dict[str, dict[str, Any]] = {}
    times: dict[str, dict[str, list[float]]] = {}
    if args.rounds and evaluate:
        chosen = {n: run.evaluate for n, run in runs.items() if n in (PLAIN, EFFICIENT, 'linear', 'no tuning, host')}
        for name in chosen:
            runs[name].net.eval()
        times = interleaved_times(chosen, 2 * args.rounds)
        for name in chosen:
            runs[name].net.train()
    exact = runs[PLAIN].gradient() if evaluate and PLAIN in runs else None
    for name, run in runs.items():
        trains = name != 'no tuning, host'
        rows[name] = dict(peak=run.peak()) if trains else {}
        if trains and name != INT8:  # what int8 saves is hidden from the hook that counts
            rows[name]['kept'] = run.kept()
        if exact is not None and name in (EFFICIENT, INT8, RECOMPUTE, CHECKPOINTED):
            gradient = run.gradient()
            rows[name]['error'] = float((gradient - exact).norm() / exact.norm())
            rows[name]['cosine'] = float(torch.cosine_similarity(gradient.double(), exact.double(), dim=0))
        if args.by_operation and trains:
            rows[name]['kept by operation'] = run.kept_by_operation()
        if args.fit and trains:
            rows[name]['largest batch'] = run.largest_batch(args.fit)
    if args.rounds:
        trained = {name: run.step for name, run in runs.items() if name != 'no tuning, host'}
        for name, found in interleaved_times(trained, args.rounds).items():
            times.setdefault(name, {}).update(found)
    for name, found in times.items():
        rows[name]['seconds'] = found
    return rows


@command
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    about = machine(args)
    setting = f'{args.batch}×3×{args.size[0]}×{args.size[1]}, {args.dtype}'
    setting += ', channels last' * args.channels_last + ', torch.compile' * args.compile
    print(f'{setting}; {about["device"]}, {about["threads"]} threads, torch {about["torch"]}')
    results: dict[str, dict[str, dict[str, Any]]] = {}
    if args.models:
        for model in args.models:
            runs = {name: Run(*build_step(model, name, args)) for name in _chosen(MODELS_OF[model], args)}
            results[model] = measure(runs, args, evaluate=False)
    else:
        cfg = dict(BACKBONES[args.backbone], **(dict(depth=args.depth) if args.backbone == 'resnet' else {}))
        host = cfg['type'].split('.')[0].replace('timm', 'mmpretrain')
        __import__(f'{host}.models')
        init_default_scope(host)
        builders = methods(cfg)
        title = f'ResNet-{args.depth}' if args.backbone == 'resnet' else args.backbone
        if args.against:
            run = Run(prepared(builders['no tuning, host'], args), args)
            results[title] = compare(run.net, run.image(), args.against, args.rounds)
        else:
            runs = {name: Run(prepared(builders[name], args), args) for name in _chosen(builders, args)}
            results[title] = measure(runs, args, evaluate=True)
    for title, rows in results.items():
        print(f'\n{title}\n\n{comparison_table(rows) if args.against else table(rows)}')
        for name, row in rows.items() if args.by_operation and not args.against else ():
            kept = row.get('kept by operation', {})
            listed = ', '.join(f'{kind} {mib:.0f}' for kind, mib in kept.items() if mib >= 0.5)
            print(f'\n{name} keeps, in MiB: {listed}')
    if args.json:
        written = json.dumps(dict(machine=about, setting=setting, results=results), indent=1) + '\n'
        write_atomically(written.encode(), args.json)
    if args.plot:
        plot(results, args.plot)


def _chosen(names: Any, args: argparse.Namespace) -> list[str]:
    if not args.methods:
        return list(names)
    found = [name for name in names if any(name.startswith(start) for start in args.methods)]
    if not found:
        raise SystemExit(f'error: --methods {" ".join(args.methods)}: none of {", ".join(names)} begins so')
    return found


if __name__ == '__main__':
    main()
