"""Checks that batch norms in training mode get enough images."""

from typing import Any

from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm

from protuning_mm.doctor.findings import Finding, Findings, join_first
from protuning_mm.doctor.training_setup import TrainingSetup


def check_batch_norms(setup: TrainingSetup) -> Findings:
    """Find batch norms that train on one image per GPU, and synchronized batch norms in a single process."""
    training = {name: module for name, module in setup.model.named_modules() if _updates_statistics(module)}
    synced = [name for name, module in training.items() if type(module).__name__ == 'SyncBatchNorm']
    batch = setup.batch_size
    if synced and not setup.distributed:
        yield Finding(
            'info',
            'norm_cfg',
            f'SyncBN in {len(synced)} layers ({join_first(synced)}), but one process: mmengine turns them into plain '
            f'BN, with statistics of {batch} images',
            "nothing, or norm_cfg=dict(type='BN') to state it; --launcher pytorch keeps SyncBN",
        )
    unsynced = [name for name in training if name not in synced or setup.gpus == 1]
    if batch == 1 and unsynced:
        yield Finding(
            'warning',
            'train_dataloader.batch_size',
            f'one image per GPU, and {len(unsynced)} batch norms train on the statistics of that image only: '
            f'{join_first(unsynced)}',
            "batch_size of 2 or more, norm_cfg=dict(type='GN', num_groups=32), norm_eval=True in the backbone, or "
            'SyncBN with several GPUs',
        )


def _updates_statistics(module: Any) -> bool:
    # mmcv's own SyncBN is not a subclass of torch's batch norm
    is_norm = isinstance(module, _BatchNorm) or type(module).__name__ == 'SyncBatchNorm'
    return is_norm and module.training and module.track_running_stats
