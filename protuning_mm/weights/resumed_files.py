"""Files of a resumed run: it removes and opens only files of its own work dir, whatever the checkpoint names.

The message hub in a checkpoint names the best checkpoint and the steps of the kept checkpoints, and mmengine removes
the named files. A checkpoint from someone else could therefore remove any file, and a copied work dir could remove the
best checkpoint of the original.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.hooks import CheckpointHook

from protuning_mm.weights.errors import CheckpointError

# keys in the message hub
BEST = 'best_ckpt'  # mmengine's: a path; with several metrics, best_ckpt_<metric>
KEPT = 'keep_ckpt_ids'  # mmengine's: steps
OUTDATED = 'outdated_ckpt_id'  # this package's: the step whose file is removed after the save
OUTDATED_BEST = 'outdated_best'  # this package's: names of best checkpoints that are removed after the save
_MAX_NAME = 255


def restrict_to_own_files(run: Any, resumed_from: str) -> None:
    """Remove all files from the message hub of a resumed run that are not its own.

    Entries of the hub are used only if the checkpoint is in a folder to which a CheckpointHook of the run writes. Of
    the path of a best checkpoint, only the file name is used, and only if this hook could have chosen it.

    Args:
        run (Runner): A runner that has just resumed.
        resumed_from (str): The path of the checkpoint.
    """
    info = run.message_hub.runtime_info
    folders = {hook: _find_folder(hook, run) for hook in run.hooks if isinstance(hook, CheckpointHook)}
    source_folder = os.path.split(Path(resumed_from).expanduser() if resumed_from.startswith('~') else resumed_from)[0]
    own = {hook: folder for hook, folder in folders.items() if _is_same_folder(folder, source_folder)}
    for key in [key for key in info if str(key).startswith(BEST)]:
        name = re.split(r'[\\/]', str(info[key]))[-1]
        folder = next((folder for hook, folder in own.items() if _could_name_best(hook, name, key)), None)
        info[key] = None if folder is None else f'{folder.rstrip("/")}/{name}'
    if KEPT in info:
        kept = info[KEPT] if own and isinstance(info[KEPT], list | tuple) else ()
        info[KEPT] = [step for step in kept if _is_step(step)]
    if OUTDATED in info and not (own and _is_step(info[OUTDATED])):
        info[OUTDATED] = None
    if OUTDATED_BEST in info:
        outdated = info[OUTDATED_BEST] if own and isinstance(info[OUTDATED_BEST], list | tuple) else ()
        names = [re.split(r'[\\/]', str(name))[-1] for name in outdated]
        info[OUTDATED_BEST] = [name for name in names if any(_could_name_best(hook, name) for hook in own)]


def _find_folder(hook: CheckpointHook, run: Any) -> str:
    """Find the folder to which a hook will write, as its ``before_train`` will set it."""
    if hook.out_dir in (None, run.work_dir):
        return str(run.work_dir)
    return f'{str(hook.out_dir).rstrip("/")}/{os.path.split(run.work_dir.rstrip(os.sep))[1]}'


def _is_same_folder(one: str, other: str) -> bool:
    return one == other or ('://' not in one + other and os.path.realpath(one) == os.path.realpath(other))


def _is_step(value: Any) -> bool:
    return type(value) is int and value >= 0


def _could_name_best(hook: CheckpointHook, name: str, key: Any = None) -> bool:
    """Check whether a hook could give this name to a best checkpoint.

    Args:
        hook (CheckpointHook): The hook.
        name (str): The name.
        key (str, optional): The key of the message hub that refers to the checkpoint. Defaults to any key.
    """
    if not hook.save_best or len(name) > _MAX_NAME:
        return False
    several = len(hook.key_indicators) > 1
    for metric in hook.key_indicators:
        if key not in (None, f'{BEST}_{metric}' if several else BEST):
            continue
        for step in {0, *map(int, re.findall(r'[0-9]+', name))}:
            end = '_' + hook.filename_tmpl.format(step).replace('/', '_')
            middle = name.removeprefix('best_').removesuffix(end)
            if name == f'best_{middle}{end}' and (middle == metric.replace('/', '_') or (metric == 'auto' and middle)):
                return True
    return False


def restrict_resumed_files(resume: Callable[..., None], run: Any, filename: str, *args: Any, **kwargs: Any) -> None:
    """Call a runner's ``resume``, then :func:`restrict_to_own_files`."""
    resume(run, filename, *args, **kwargs)
    restrict_to_own_files(run, str(filename))


def find_in_own_folder(find: Callable[[str], str | None], path: str) -> str | None:
    """Call ``find_latest_checkpoint``, and look for the file in the work dir itself, even if it was copied."""
    named = find(path)
    if not named:
        return named
    own = Path(path) / re.split(r'[\\/]', named)[-1]
    if own.exists():
        return str(own)
    if named.startswith(('http://', 'https://')):
        raise CheckpointError(
            f'{path}/last_checkpoint names {named!r}, but no run saves there. Name the checkpoint: --resume <path>'
        )
    return named
