"""Checkpoint files of each kind, the entry points that load them, and the outcome of loading a damaged file."""

import copy
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from safetensors.torch import save_file
from torch import Tensor, nn

from protuning_mm.cli.convert_delta import main_extract, main_merge
from protuning_mm.cli.export import load_model
from protuning_mm.cli.inspect_delta import inspect_delta
from protuning_mm.multitask import MultiTask
from protuning_mm.weights import CheckpointError, FrozenWeightsError, load_checkpoint_file
from tests.plain import fill, plain_resnet
from tests.test_multitask.tasks import Workshop
from tests.test_weights.deltas import classifier, save_delta, trained
from tests.tiny import TinyClassifier, Weights, runner, tuned_resnet


def make_files(folder: Path, weights: Weights) -> dict[str, Path]:
    """Whole checkpoints and deltas of a run, a delta for inference in both endings, and files of other programs."""
    base = weights('mmdet', depth=18)
    files = {}
    for name, hook in (('whole.pth', 'CheckpointHook'), ('delta.pth', 'DeltaCheckpointHook')):
        model = TinyClassifier(tuned_resnet(base))
        hooks = dict(
            checkpoint=dict(type=f'protuning_mm.{hook}', interval=1),
            tuning=dict(type='protuning_mm.TuningHook'),
            resume=dict(type='protuning_mm.ExactResumeHook'),
        )
        runner(model, folder / f'run_{name}', epochs=1, default_hooks=hooks).train()
        files[name] = folder / f'run_{name}' / 'epoch_1.pth'
    files['task.safetensors'] = save_delta(trained(base), folder / 'task.safetensors')
    plain = fill(TinyClassifier(plain_resnet('mmdet', depth=18)), 3).state_dict()
    for name, new in (('plain.pth', True), ('legacy.pth', False)):
        files[name] = folder / name
        torch.save(dict(state_dict=plain, meta=dict(epoch=3)), files[name], _use_new_zipfile_serialization=new)
    files['plain.safetensors'] = folder / 'plain.safetensors'
    save_file(plain, files['plain.safetensors'])
    return files


def entry_points(kind: str, base: str, work_dir: Path) -> dict[str, Callable[[str], Any]]:
    """Functions that load a file of a kind; each returns the resulting state."""
    ours = not kind.startswith(('plain', 'legacy'))

    def model() -> nn.Module:
        torch.manual_seed(7)
        return classifier(base) if ours else TinyClassifier(plain_resnet('mmdet', depth=18))

    def loaded(path: str) -> Any:
        one = model()
        load_checkpoint(one, path)
        return one.state_dict()

    def started(path: str, resume: bool = False) -> Any:
        run = runner(model(), work_dir, load_from=path, resume=resume)
        run.load_or_resume()
        state: dict[str, Any] = dict(model=run.model.state_dict())
        if resume:
            info = run.message_hub.state_dict()['runtime_info']
            state |= dict(epoch=run.epoch, iter=run.iter, optimizer=run.optim_wrapper.state_dict(), info=info)
        return state

    def pretrained(path: str) -> Any:
        torch.manual_seed(7)
        return tuned_resnet(path).state_dict()

    def read(path: str) -> Any:
        return copy.copy(CheckpointLoader.load_checkpoint(path, 'cpu'))

    found: dict[str, Callable[[str], Any]] = {
        'load_checkpoint': loaded,
        'CheckpointLoader': read,
        'load_checkpoint_file': load_checkpoint_file,
        'load_from': started,
    }
    if kind in ('whole.pth', 'delta.pth'):
        found['resume'] = lambda path: started(path, resume=True)
    if ours and kind != 'whole.pth':
        found['inspect_delta'] = lambda path: inspect_delta(path) | dict(file='', bytes=0)
    else:
        found['init_cfg'] = pretrained
    return found


def tools(kind: str, workshop: Workshop, out: Path) -> dict[str, Callable[[str], Any]]:
    """The same for a classifier: functions of the host library, MultiTask and the command lines."""
    from mmpretrain import ImageClassificationInferencer, get_model

    config = str(workshop.configs['cls'])
    cfg = workshop.config('cls')

    def served(path: str) -> Any:
        multitask = MultiTask()
        multitask.add('cls', cfg, path)
        return multitask.features(dict(cls=workshop.images[0]))['cls']

    def converted(main: Callable[[list[str]], None]) -> Callable[[str], Any]:
        def run(path: str) -> Any:
            main([config, path, str(out / 'out.pth')])
            return torch.load(out / 'out.pth', weights_only=True)['state_dict']

        return run

    def inferring(path: str) -> Any:
        return ImageClassificationInferencer(config, pretrained=path, device='cpu').model.state_dict()

    found: dict[str, Callable[[str], Any]] = {
        'get_model': lambda path: get_model(config, pretrained=path).state_dict(),
        'inferencer': inferring,
        'MultiTask': served,
        'export': lambda path: load_model(cfg, path).state_dict(),
        'extract_delta': converted(main_extract),
    }
    if kind == 'delta':
        found['merge_delta'] = converted(main_merge)
    return found


def outcome(load: Callable[[str], Any], path: Path, good: Any) -> str:
    """``refused``, ``equal``, ``warned`` (another state, with a warning), ``silent`` or the name of another error."""
    with Warnings() as warnings:
        try:
            got = load(str(path))
        except (CheckpointError, FrozenWeightsError) as error:
            return 'refused' if path.name in str(error) or 'delta' in str(error) else f'nameless: {error}'
        except SystemExit as error:
            return 'refused' if str(error.code).startswith('error:') else f'exit {error.code!r}'
        except Exception as error:
            return f'{type(error).__name__}: {error}'
    if same(got, good):
        return 'equal'
    return 'warned' if warnings.said else 'silent'


class Warnings:
    """Collects the warnings of all loggers."""

    def __enter__(self) -> 'Warnings':
        self.said: list[str] = []
        self._handle = handle = logging.Logger.handle

        def noting(logger: logging.Logger, record: logging.LogRecord) -> None:
            if record.levelno >= logging.WARNING and 'The prefix is not set' not in record.getMessage():
                self.said.append(record.getMessage())
            handle(logger, record)

        logging.Logger.handle = noting  # type: ignore[method-assign]
        return self

    def __exit__(self, *args: object) -> None:
        logging.Logger.handle = self._handle  # type: ignore[method-assign]


def same(one: Any, other: Any) -> bool:
    """Whether two states are equal bit for bit, compared with plain torch."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return set(one) == set(other) and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other))
    if hasattr(one, '_log_history'):  # mmengine's HistoryBuffer
        return type(one) is type(other) and (one._log_history == other._log_history).all()
    return type(one) is type(other) and bool(one == other)
