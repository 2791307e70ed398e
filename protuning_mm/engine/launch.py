"""Distributed training on CPUs, which mmengine's launcher does not support."""

import atexit
import gc
import os
import time
from typing import Any

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.logging import print_log


def prepare_cpu_ranks(cfg: Config) -> None:
    """Prepare ``--launcher pytorch`` for CPU ranks (gloo).

    mmengine's launcher calls ``torch.cuda.set_device`` and passes ``device_ids`` to DDP, which rejects them on a CPU;
    SyncBN rejects CPU inputs. This function therefore creates the process group, sets no ``device_ids``, and replaces
    SyncBN by BN, whose statistics are separate in each rank. It does nothing with CUDA or in a single process.

    Args:
        cfg (Config): Changed in place.

    Raises:
        RuntimeError: the launcher is not ``pytorch``, or torchrun's environment variables are missing.
    """
    if cfg.get('launcher', 'none') == 'none' or torch.cuda.is_available():
        return
    if cfg.launcher != 'pytorch':
        raise RuntimeError(
            f'--launcher {cfg.launcher} needs CUDA devices, and none is available; to run on CPUs, use '
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
    cfg.model_wrapper_cfg = dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    ) | dict(cfg.get('model_wrapper_cfg', {}))
    replaced = _replace_sync_bn(cfg.model)
    message = f'{dist.get_world_size()} CPU ranks (gloo)'
    if replaced:
        message += f'; SyncBN cannot run on a CPU: {replaced} norm_cfg became BN, with separate statistics in each rank'
    if dist.get_rank() == 0:
        print_log(message, 'current')


def _leave() -> None:
    """End the process group's threads; a thread that outlives the interpreter would abort the finished process."""
    # Gloo's threads need the GIL to free the tensors of the last collectives. Destroying the group holds the GIL and
    # waits for these threads, which would be a deadlock. Sleeping releases the GIL, so that they finish first.
    time.sleep(0.2)
    if dist.is_initialized():
        dist.destroy_process_group()
    gc.collect()  # the DDP model also holds the group, and is part of a reference cycle


def _replace_sync_bn(value: Any) -> int:
    if isinstance(value, list | tuple):
        return sum(_replace_sync_bn(item) for item in value)
    if not isinstance(value, dict):
        return 0
    replaced = value.get('type') in ('SyncBN', 'MMSyncBN')
    if replaced:
        value['type'] = 'BN'
    return replaced + sum(_replace_sync_bn(item) for item in value.values())
