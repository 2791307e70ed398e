"""One run: trained, validated, tested and measured, with a result that is written whole or not at all."""

import os
import platform
import shutil
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.utils import import_modules_from_strings
from torch import Tensor

from protuning_lab.study.alone import alone
from protuning_lab.study.quiet import device_name, quiet_config, quiet_runner
from protuning_lab.study.results import ERROR, write_result
from protuning_lab.study.watching import WatchingHook, memory_of_training
from protuning_mm.data import check_data_files
from protuning_mm.engine.parameter_table import count_parameters
from protuning_mm.patches import prepare_process
from protuning_mm.weights.atomic import write_atomically
from protuning_mm.weights.fingerprint import fingerprint

_HOSTS = ('mmdet', 'mmpretrain', 'mmseg')
_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
_PACKAGES = (
    'torch', 'numpy', 'timm', 'onedl-mmcv', 'onedl-mmengine', 'onedl-mmpretrain', 'onedl-mmdetection',
    'onedl-mmsegmentation', 'protuning_mm',
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """A cell, as a worker gets it.

    Args:
        name (str): The cell's name.
        folder (Path): Where its result goes.
        labels (dict): Axis -> value, ``learning_rate`` and ``seed``, for the result.
        cfg (Config): Its whole config.
        tests (dict): The test sets' parts of it.
        digest (str): The hash of both.
        validate (str): ``'end'`` or ``'as configured'``.
        keep_checkpoints (bool): Whether checkpoints stay.
        threads (int): torch's threads on a CPU.
        jobs (int): How many run beside each other, which times depend on.
    """

    name: str
    folder: Path
    labels: Mapping[str, Any]
    cfg: Config
    tests: Mapping[str, Mapping[str, Any]]
    digest: str
    validate: str = 'end'
    keep_checkpoints: bool = False
    threads: int = 1
    jobs: int = 1


@dataclass(frozen=True)
class Outcome:
    """How a job ended: with a result, or with the last line of an error whose traceback is in its folder."""

    name: str
    result: dict[str, Any] | None = None
    error: str | None = None


def execute(job: Job) -> Outcome:
    """Run a job and write its result, or its traceback, to its folder. Only an interruption gets out."""
    shutil.rmtree(job.folder, ignore_errors=True)  # what a killed run left
    job.folder.mkdir(parents=True)
    printed = job.folder / 'printed.log'
    try:
        with _said_to(printed), alone():
            result = run(job)
        write_result(job.folder, result)
    except (Exception, SystemExit) as error:
        write_atomically(traceback.format_exc().encode(), job.folder / ERROR)
        return Outcome(job.name, error=f'{type(error).__name__}: {error}'.splitlines()[0])
    if not printed.stat().st_size:
        printed.unlink()
    return Outcome(job.name, result)


@contextmanager
def _said_to(path: Path) -> Iterator[None]:
    """Send what is printed to a file, also what C++ prints on standard error: it would tear the display."""
    before = os.dup(2)
    with path.open('w') as file, redirect_stdout(file), redirect_stderr(file):
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)


def run(job: Job) -> dict[str, Any]:
    """Train, validate, test and measure.

    Raises:
        Exception: whatever the hosts raise.
    """
    _prepare(job)
    start = time.perf_counter()  # a process imports the hosts once, whichever run is its first
    scratch = job.folder / 'run'
    runner = quiet_runner(quiet_config(job.cfg, str(scratch), job.validate, job.keep_checkpoints))
    watched = WatchingHook()
    runner.register_hook(watched)
    runner.train()
    if not watched.validations and runner.val_loop is not None:
        runner.val_loop.run()
    trained = {name: param for name, param in runner.model.named_parameters() if param.requires_grad}
    weights = fingerprint(trained).total
    tests = {name: _test(runner, Config(dict(parts))) for name, parts in job.tests.items()}
    parameters = count_parameters(runner.model)
    memory = memory_of_training(runner, watched)
    if not job.keep_checkpoints:
        shutil.rmtree(scratch, ignore_errors=True)
    validations = [plain(each) for each in watched.validations]
    return dict(
        cell=dict(job.labels),
        config_hash=job.digest,
        val={key: value for key, value in (validations or [{}])[-1].items() if key != 'step'},
        test=tests,
        validations=validations[:-1],
        trained_parameters=parameters.trained,
        full_parameters=parameters.full,
        share=parameters.share,
        trained_weights=weights,
        peak_memory_mib=memory,
        memory_measured_by='CUDA allocator' if watched.cuda_peak is not None else 'profiled step',
        step_seconds=watched.step_time,
        steps=len(watched.steps),
        seconds=time.perf_counter() - start,
        finished=time.strftime('%Y-%m-%d %H:%M:%S'),
        machine=machine(),
        threads=job.threads,
        jobs=job.jobs,
        versions=versions(),
    )


def _prepare(job: Job) -> None:
    torch.set_num_threads(job.threads)
    if job.cfg.get('custom_imports'):  # in a worker nobody has read the file
        import_modules_from_strings(**job.cfg.custom_imports)
    scope = job.cfg.get('default_scope') or ''
    if scope in _HOSTS:
        for part in ('models', 'datasets', 'evaluation'):
            import_module(f'{scope}.{part}')
    check_data_files(job.cfg, _LOADERS)
    for parts in job.tests.values():
        check_data_files(Config(dict(parts) | dict(default_scope=scope or 'mmengine')), _LOADERS)
    prepare_process(scope)


def _test(runner: Any, parts: Config) -> dict[str, Any]:
    """Run a test set through the trained model; ``runner.test`` would begin a new run, and average weights anew."""
    runner._test_dataloader, runner._test_evaluator = parts.test_dataloader, parts.test_evaluator
    runner._test_loop = runner.build_test_loop(parts.test_cfg)
    found: dict[str, Any] = plain(runner.test_loop.run())
    return found


def plain(value: Any) -> Any:
    """Numbers, lists and dicts of numbers that JSON takes, out of what metrics return."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Tensor | np.ndarray | np.generic):
        return value.tolist()
    return value if isinstance(value, int | float | str | None) else str(value)


@lru_cache
def versions() -> dict[str, str]:
    """The installed packages that a result depends on."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return {'python': platform.python_version()} | found


@lru_cache
def machine() -> dict[str, Any]:
    """Where a result was made."""
    cpu = platform.processor() or platform.machine()
    info = Path('/proc/cpuinfo')
    if info.is_file():
        models = [line.partition(':')[2].strip() for line in info.read_text().splitlines() if 'model name' in line]
        cpu = models[0] if models else cpu
    return dict(name=platform.node(), cpu=cpu, cores=os.cpu_count(), device=device_name())
