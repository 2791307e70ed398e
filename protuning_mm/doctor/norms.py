"""Batch norms that gather statistics: are there images enough?"""

from typing import Any

from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm

from protuning_mm.doctor.case import Case
from protuning_mm.doctor.findings import Finding, Findings, first_few


def check_norms(case: Case) -> Findings:
    """Training batch norms with one image a GPU, and synchronised ones in a single process."""
    assert case.model is not None
    training = {name: module for name, module in case.model.named_modules() if _gathers(module)}
    synced = [name for name, module in training.items() if type(module).__name__ == 'SyncBatchNorm']
    batch = case.batch_size
    if synced and not case.distributed:
        yield Finding(
            'info',
            'norm_cfg',
            f'SyncBN in {len(synced)} layers ({first_few(synced)}), but one process: mmengine makes them plain BN, '
            f'with statistics of {batch} images',
            "nothing, or norm_cfg=dict(type='BN') to say so; --launcher pytorch keeps them",
        )
    alone = [name for name in training if name not in synced or case.gpus == 1]
    if batch == 1 and alone:
        yield Finding(
            'warning',
            'train_dataloader.batch_size',
            f'one image a GPU, and {len(alone)} batch norms train on its statistics alone: {first_few(alone)}',
            "batch_size of 2 or more, norm_cfg=dict(type='GN', num_groups=32), norm_eval=True in the backbone, or "
            'SyncBN with several GPUs',
        )


def _gathers(module: Any) -> bool:
    # mmcv's own SyncBN is no batch norm of torch's
    is_norm = isinstance(module, _BatchNorm) or type(module).__name__ == 'SyncBatchNorm'
    return is_norm and module.training and module.track_running_stats
