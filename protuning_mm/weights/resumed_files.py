"""A resumed run removes and opens files of its own work dir alone, whatever the checkpoint says of others.

A checkpoint's message hub names the best checkpoint and the steps of those that are kept, and mmengine removes what it
names: a stranger's checkpoint could remove any file, and a copied work dir the original's best checkpoint.
"""

import os
import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from mmengine.hooks import CheckpointHook

from protuning_mm.weights.errors import CheckpointError

BEST = 'best_ckpt'  # in the message hub: a path; with several metrics, best_ckpt_<metric>
KEPT = 'keep_ckpt_ids'
OUTDATED = 'outdated_ckpt_id'  # ours: the step whose file is to be removed after the save
OUTDATED_BEST = 'outdated_best'  # ours: names of best checkpoints that are to be removed after the save
_LONGEST_NAME = 255


def keep_own_files(run: Any, resumed_from: str) -> None:
    """Leave no file in a resumed run's message hub but its own.

    What the hub says counts where the checkpoint lies in the folder that a CheckpointHook of the run writes to. Of a
    best checkpoint its name counts alone, if it is one that this hook gives.

    Args:
        run (Runner): A runner that has just resumed.
        resumed_from (str): The checkpoint's path.
    """
    info = run.message_hub.runtime_info
    folders = {hook: _folder(hook, run) for hook in run.hooks if isinstance(hook, CheckpointHook)}
    beside = os.path.split(Path(resumed_from).expanduser() if resumed_from.startswith('~') else resumed_from)[0]
    own = {hook: folder for hook, folder in folders.items() if _same(folder, beside)}
    for key in [key for key in info if str(key).startswith(BEST)]:
        name = re.split(r'[\\/]', str(info[key]))[-1]
        named = (f'{folder.rstrip("/")}/{name}' for hook, folder in own.items() if _names_best(hook, key, name))
        info[key] = next(named, None)
    if KEPT in info:
        kept = info[KEPT] if own and isinstance(info[KEPT], list | tuple) else ()
        info[KEPT] = [step for step in kept if _is_step(step)]
    if OUTDATED in info and not (own and _is_step(info[OUTDATED])):
        info[OUTDATED] = None
    if OUTDATED_BEST in info:
        outdated = info[OUTDATED_BEST] if own and isinstance(info[OUTDATED_BEST], list | tuple) else ()
        names = [re.split(r'[\\/]', str(name))[-1] for name in outdated]
        info[OUTDATED_BEST] = [name for name in names if any(_is_best(hook, name) for hook in own)]


def _folder(hook: CheckpointHook, run: Any) -> str:
    """Where a hook writes, as its ``before_train`` will have it."""
    if hook.out_dir in (None, run.work_dir):
        return str(run.work_dir)
    return f'{str(hook.out_dir).rstrip("/")}/{os.path.split(run.work_dir.rstrip(os.sep))[1]}'


def _same(one: str, other: str) -> bool:
    return one == other or ('://' not in one + other and os.path.realpath(one) == os.path.realpath(other))


def _is_step(value: Any) -> bool:
    return type(value) is int and value >= 0


def _names_best(hook: CheckpointHook, key: Any, name: str) -> bool:
    """Whether a hook would give this name to a best checkpoint of the metric that a key of the message hub is for."""
    if not hook.save_best or len(name) > _LONGEST_NAME:
        return False
    several = len(hook.key_indicators) > 1
    for metric in hook.key_indicators:
        if key != (f'{BEST}_{metric}' if several else BEST):
            continue
        for step in {0, *map(int, re.findall(r'[0-9]+', name))}:
            end = '_' + hook.filename_tmpl.format(step).replace('/', '_')
            middle = name.removeprefix('best_').removesuffix(end)
            if name == f'best_{middle}{end}' and (middle == metric.replace('/', '_') or (metric == 'auto' and middle)):
                return True
    return False


def _is_best(hook: CheckpointHook, name: str) -> bool:
    metrics = hook.key_indicators if hook.save_best else []
    return any(_names_best(hook, key, name) for key in (BEST, *(f'{BEST}_{metric}' for metric in metrics)))


def keep_own_files_after(resume: Callable[..., Any]) -> Callable[..., Any]:
    """Run :func:`keep_own_files` after a runner's ``resume``."""

    @wraps(resume)
    def resumed(self: Any, filename: str, *args: Any, **kwargs: Any) -> Any:
        result = resume(self, filename, *args, **kwargs)
        keep_own_files(self, str(filename))
        return result

    return resumed


def find_in_own_folder(find: Callable[[str], str | None]) -> Callable[[str], str | None]:
    """Look for the latest checkpoint in the work dir itself: ``last_checkpoint`` of a copied work dir names another."""

    @wraps(find)
    def latest(path: str) -> str | None:
        named = find(path)
        if not named:
            return named
        own = Path(path) / re.split(r'[\\/]', named)[-1]
        if own.exists():
            return str(own)
        if named.startswith(('http://', 'https://')):
            raise CheckpointError(
                f'{path}/last_checkpoint names {named!r}, and no run saves there. Name the checkpoint: --resume <path>'
            )
        return named

    return latest
