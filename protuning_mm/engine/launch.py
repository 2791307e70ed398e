"""Several processes without CUDA, which mmengine's launcher does not foresee."""

import atexit
import gc
import os
from typing import Any

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.logging import print_log


def prepare_cpu_ranks(cfg: Config) -> None:
    """Let ``--launcher pytorch`` run on CPU ranks (gloo).

    mmengine's launcher calls ``torch.cuda.set_device`` and hands DDP ``device_ids``, which it refuses on a CPU; the
    hosts' SyncBN refuses CPU inputs. So the process group is made here, DDP gets no device, and SyncBN becomes BN: its
    statistics are then each rank's own. With CUDA, or with one process, nothing is done.

    Args:
        cfg (Config): Changed in place.

    Raises:
        RuntimeError: the launcher is not ``pytorch``, or torchrun's environment variables are missing.
    """
    if cfg.get('launcher', 'none') == 'none' or torch.cuda.is_available():
        return
    if cfg.launcher != 'pytorch':
        raise RuntimeError(
            f'--launcher {cfg.launcher} needs CUDA devices, and none is available; CPU ranks run with '
            '--launcher pytorch under torchrun'
        )
    absent = [name for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR') if name not in os.environ]
    if absent:
        raise RuntimeError(
            f'--launcher pytorch: {", ".join(absent)} not set; start through tools/dist_train.sh or torchrun'
        )
    if not dist.is_initialized():
        dist.init_process_group('gloo')
        atexit.register(_leave)
    cfg.setdefault('model_wrapper_cfg', dict())
    cfg.model_wrapper_cfg = dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    ) | dict(cfg.model_wrapper_cfg)
    replaced = _replace_sync_bn(cfg.model)
    said = f'{dist.get_world_size()} CPU ranks (gloo)'
    if replaced:
        said += f'; SyncBN cannot run on a CPU: {replaced} norm_cfg became BN, with statistics of each rank alone'
    if dist.get_rank() == 0:
        print_log(said, 'current')


def _leave() -> None:
    """End the group's threads: one that wants the interpreter when that has ended aborts a process that was done."""
    if dist.is_initialized():
        dist.destroy_process_group()
    gc.collect()  # the wrapped model, which is in a cycle, holds the group too


def _replace_sync_bn(value: Any) -> int:
    replaced = 0
    if isinstance(value, dict):
        if value.get('type') in ('SyncBN', 'MMSyncBN'):
            value['type'] = 'BN'
            replaced += 1
        replaced += sum(_replace_sync_bn(item) for item in value.values())
    elif isinstance(value, list | tuple):
        replaced += sum(_replace_sync_bn(item) for item in value)
    return replaced
