"""``tools/analysis_tools/benchmark_deltas.py``: file sizes of deltas and whole checkpoints, and their times."""

import argparse
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import nn

from protuning_mm.backbones import tuned_backbones
from protuning_mm.cli.command import command
from protuning_mm.cli.count_params import CONFIGS
from protuning_mm.cli.flags import at_least
from protuning_mm.engine.build_model import build_model
from protuning_mm.engine.config import read_config
from protuning_mm.weights import load_checkpoint_file
from protuning_mm.weights.deltas import drop_training_state, make_delta
from protuning_mm.weights.fingerprint import fingerprint
from protuning_mm.weights.write import write_checkpoint

_CONFIGS = (
    'det/cascade_mask_rcnn_r50_protune.py',
    'det/htc_r50_protune.py',
    'seg/fcn_r50_protune.py',
    'seg/upernet_r50_protune.py',
)


def measure_config(config: Path, rounds: int) -> dict[str, Any]:
    """Measure file sizes in bytes and median times in seconds for the model of one config, with a random base.

    Args:
        config (Path): One of our configs.
        rounds (int): Number of measurements of each time. The measurements alternate.
    """
    cfg = read_config(config)
    model = build_model(cfg)
    ((name, backbone),) = tuned_backbones(model).items()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / 'base.pth'
        torch.save(backbone.plain_tensors(), base)
        backbone.fill_from(str(base))
        whole: dict[str, Any] = dict(state_dict=model.state_dict(), meta={}, optimizer=_stepped_optimizer(model, cfg))
        found = {name: fingerprint(backbone.frozen_tensors())}

        def delta() -> dict[str, Any]:
            content = dict(whole)
            make_delta(content, {name: backbone}, found)
            return content

        paths = {
            form: Path(folder) / f'{form}.pth' for form in ('whole', 'whole_inference', 'delta', 'delta_inference')
        }
        write_checkpoint(whole, paths['whole'])
        write_checkpoint(drop_training_state(whole), paths['whole_inference'])
        write_checkpoint(delta(), paths['delta'])
        write_checkpoint(drop_training_state(delta()), paths['delta_inference'])

        def load(form: str, base_loaded: bool = True) -> None:
            state = load_checkpoint_file(str(paths[form]))['state_dict']
            if not base_loaded:  # destroy a frozen tensor, so that the base file is read
                next(iter(backbone.frozen_tensors().values())).zero_()
            model.load_state_dict(state)

        timed = _times(
            {
                'fingerprint': lambda: fingerprint(backbone.frozen_tensors()),
                'save whole': lambda: write_checkpoint(drop_training_state(whole), Path(folder) / 'x.pth'),
                'save delta': lambda: write_checkpoint(drop_training_state(delta()), Path(folder) / 'y.pth'),
                'load whole': lambda: load('whole_inference'),
                'load delta': lambda: load('delta_inference'),
                'load delta and base': lambda: load('delta_inference', base_loaded=False),
            },
            rounds,
        )
        content = torch.load(paths['delta_inference'])
        return dict(
            sizes={form: path.stat().st_size for form, path in paths.items()},
            tensor_bytes=sum(tensor.nbytes for tensor in content['state_dict'].values()),
            seconds=timed,
            frozen=sum(tensor.nbytes for tensor in backbone.frozen_tensors().values()),
        )


def _stepped_optimizer(model: nn.Module, cfg: Config) -> Any:
    """Return the optimizer's state after one step with zero gradients."""
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    for param in model.parameters():
        param.grad = torch.zeros_like(param) if param.requires_grad else None
    wrapper.optimizer.step()
    state = wrapper.state_dict()
    return torch.load(_in_memory(state), weights_only=False)


def _in_memory(value: Any) -> io.BytesIO:
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return file


def _times(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in taken.items()}


def as_markdown(results: dict[str, dict[str, Any]]) -> str:
    """Format two Markdown tables: sizes in MB and times in seconds."""
    forms = ('whole', 'whole_inference', 'delta', 'delta_inference')
    lines = [
        '| MB | whole, training | whole, inference | delta, training | delta, inference | delta / its tensors |',
        '|---|---:|---:|---:|---:|---:|',
    ]
    for name, result in results.items():
        sizes = [f'{result["sizes"][form] / 1e6:.1f}' for form in forms]
        lines.append(
            f'| {name} | {" | ".join(sizes)} | {result["sizes"]["delta_inference"] / result["tensor_bytes"]:.4f} |'
        )
    kinds = list(next(iter(results.values()))['seconds'])
    lines += ['', f'| seconds | {" | ".join(kinds)} |', '|---|' + '---:|' * len(kinds)]
    for name, result in results.items():
        lines.append(f'| {name} | {" | ".join(f"{seconds:.2f}" for seconds in result["seconds"].values())} |')
    return '\n'.join(lines)


@command
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description='Measure sizes of deltas and whole checkpoints, and times of saving and loading them'
    )
    parser.add_argument('configs', nargs='*', type=Path, help='configs (default: the four with ResNet-50)')
    parser.add_argument(
        '--rounds', type=at_least(1), default=5, help='number of measurements of each time (default: 5)'
    )
    parser.add_argument('--json', action='store_true', help='print JSON instead of Markdown')
    args = parser.parse_args(argv)
    configs = args.configs or [CONFIGS / path for path in _CONFIGS]
    results = {path.stem: measure_config(path, args.rounds) for path in configs}
    print(json.dumps(results, indent=2) if args.json else as_markdown(results))


if __name__ == '__main__':
    main()
