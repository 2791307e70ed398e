"""Runs one cell of a study: trains, validates, tests, measures, and writes the result atomically."""

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

from protuning_lab.hardware import get_device_name, get_processor_name
from protuning_lab.study.isolation import isolate_run
from protuning_lab.study.measurement_hook import MeasurementHook, measure_training_memory
from protuning_lab.study.minimal_runner import build_minimal_runner, make_minimal_config
from protuning_lab.study.results import ERROR, write_result
from protuning_mm.data import check_data_files
from protuning_mm.deltas import save_delta
from protuning_mm.engine.parameter_table import count_parameters
from protuning_mm.patches import prepare_process
from protuning_mm.weights.atomic import write_atomically
from protuning_mm.weights.fingerprint import fingerprint

_HOST_SCOPES = ('mmdet', 'mmpretrain', 'mmseg')
_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
_PACKAGES = (
    'torch', 'numpy', 'timm', 'onedl-mmcv', 'onedl-mmengine', 'onedl-mmpretrain', 'onedl-mmdetection',
    'onedl-mmsegmentation', 'protuning_mm',
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """What a worker needs to run a cell.

    Args:
        name (str): The cell's name.
        folder (Path): The folder for its result.
        labels (dict): Axis -> value, ``learning_rate``, ``setting`` and ``seed``, to store in the result.
        cfg (Config): Its full config.
        tests (dict): Test set -> its ``test_dataloader``, ``test_evaluator`` and ``test_cfg``.
        digest (str): The hash of ``cfg`` and ``tests``.
        validate (str): ``'end'`` or ``'as configured'``. Defaults to ``'end'``.
        keep_checkpoints (bool): Whether to keep checkpoints. Defaults to False.
        keep_delta (bool): Whether to save the trained model as ``delta.pth`` in ``folder``. Defaults to False.
        threads (int): Number of torch threads. Defaults to 1.
        jobs (int): Number of runs at the same time, to store in the result, because times depend on it. Defaults to 1.
    """

    name: str
    folder: Path
    labels: Mapping[str, Any]
    cfg: Config
    tests: Mapping[str, Mapping[str, Any]]
    digest: str
    validate: str = 'end'
    keep_checkpoints: bool = False
    keep_delta: bool = False
    threads: int = 1
    jobs: int = 1


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Args:
        name (str): The cell's name.
        result (dict, optional): The result. None if the job failed.
        error (str, optional): The first line of the error. The traceback is in the job's folder.
    """

    name: str
    result: dict[str, Any] | None = None
    error: str | None = None


def execute_job(job: Job) -> Outcome:
    """Run a job and write its result, or its traceback, to its folder. Raises only KeyboardInterrupt."""
    shutil.rmtree(job.folder, ignore_errors=True)  # leftovers of a killed run
    job.folder.mkdir(parents=True)
    printed = job.folder / 'printed.log'
    try:
        with _redirect_output(printed), isolate_run():
            result = run_job(job)
        write_result(job.folder, result)
    except (Exception, SystemExit) as error:
        write_atomically(traceback.format_exc().encode(), job.folder / ERROR)
        return Outcome(job.name, error=f'{type(error).__name__}: {error}'.splitlines()[0])
    if not printed.stat().st_size:
        printed.unlink()
    return Outcome(job.name, result)


@contextmanager
def _redirect_output(path: Path) -> Iterator[None]:
    """Redirect printed text to a file, also text from C++ on standard error, which would disturb the live display."""
    before = os.dup(2)
    with path.open('w') as file, redirect_stdout(file), redirect_stderr(file):
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)


def run_job(job: Job) -> dict[str, Any]:
    """Train, validate, test and measure.

    Returns:
        dict: The result, with values that JSON can store.

    Raises:
        Exception: any error of the host libraries.
    """
    _prepare_process(job)
    start = time.perf_counter()  # without the imports above: only the first run of a process pays for them
    scratch = job.folder / 'run'
    runner = build_minimal_runner(make_minimal_config(job.cfg, str(scratch), job.validate, job.keep_checkpoints))
    hook = MeasurementHook()
    runner.register_hook(hook)
    runner.train()
    if not hook.validations and runner.val_loop is not None:
        runner.val_loop.run()
    trained = {name: param for name, param in runner.model.named_parameters() if param.requires_grad}
    weights = fingerprint(trained).total
    if job.keep_delta:
        save_delta(runner.model, job.folder / 'delta.pth')
    tests = {name: _run_test_set(runner, Config(dict(parts))) for name, parts in job.tests.items()}
    parameters = count_parameters(runner.model)
    memory = measure_training_memory(runner, hook)
    if not job.keep_checkpoints:
        shutil.rmtree(scratch, ignore_errors=True)
    validations = [to_plain_values(each) for each in hook.validations]
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
        memory_measured_by='CUDA allocator' if hook.cuda_peak is not None else 'profiled step',
        step_seconds=hook.step_time,
        steps=len(hook.steps),
        seconds=time.perf_counter() - start,
        finished=time.strftime('%Y-%m-%d %H:%M:%S'),
        machine=describe_machine(),
        threads=job.threads,
        jobs=job.jobs,
        versions=installed_versions(),
    )


def _prepare_process(job: Job) -> None:
    torch.set_num_threads(job.threads)
    if job.cfg.get('custom_imports'):  # a worker got the config without reading its file
        import_modules_from_strings(**job.cfg.custom_imports)
    scope = job.cfg.get('default_scope') or ''
    if scope in _HOST_SCOPES:
        for part in ('models', 'datasets', 'evaluation'):
            import_module(f'{scope}.{part}')
    check_data_files(job.cfg, _LOADERS)
    for parts in job.tests.values():
        check_data_files(Config(dict(parts) | dict(default_scope=scope or 'mmengine')), _LOADERS)
    prepare_process(scope)


def _run_test_set(runner: Any, parts: Config) -> dict[str, Any]:
    """Test the trained model on one test set.

    ``runner.test`` cannot do this: it would start a new run and average weights again.
    """
    runner._test_dataloader, runner._test_evaluator = parts.test_dataloader, parts.test_evaluator
    runner._test_loop = runner.build_test_loop(parts.test_cfg)
    found: dict[str, Any] = to_plain_values(runner.test_loop.run())
    return found


def to_plain_values(value: Any) -> Any:
    """Convert what metrics return to values that JSON can store."""
    if isinstance(value, Mapping):
        return {str(key): to_plain_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain_values(item) for item in value]
    if isinstance(value, Tensor | np.ndarray | np.generic):
        return value.tolist()
    return value if isinstance(value, int | float | str | None) else str(value)


@lru_cache
def installed_versions() -> dict[str, str]:
    """Return the versions of the packages that a result depends on."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return {'python': platform.python_version()} | found


@lru_cache
def describe_machine() -> dict[str, Any]:
    """Describe the machine for the result."""
    return dict(name=platform.node(), cpu=get_processor_name(), cores=os.cpu_count(), device=get_device_name())
