"""mmengine's Runner and config without logs, visualization and checkpoints, to start hundreds of short runs fast."""

import copy
from typing import Any

from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

# no result depends on these hooks; mmengine would add the first two by default, so they are set to None
_LOGGING_HOOKS = ('logger', 'timer')
_VISUALIZATION_HOOK = 'visualization'


class _MinimalRunner:
    """Skips collecting versions of compilers and GPUs (1 to 4 s) and writing the config (0.1 s or more)."""

    def _log_env(self, env_cfg: dict[str, Any]) -> None:
        pass

    def dump_config(self) -> None:
        pass


def build_minimal_runner(cfg: Config) -> Any:
    """Build the runner class that the config names, by default mmengine's own."""
    # a hook reads the config as text, and formatting it with yapf takes 0.2 s
    object.__setattr__(cfg, '_format_python_code', False)
    kind: Any = RUNNERS.get(cfg.runner_type) if 'runner_type' in cfg else Runner
    minimal: Any = type(kind.__name__, (_MinimalRunner, kind), {})
    return minimal.from_cfg(cfg)


def make_minimal_config(cfg: Config, work_dir: str, validate: str, keep_checkpoints: bool) -> Config:
    """Copy a config without logging, visualization and, by default, checkpoints and intermediate validations.

    Args:
        cfg (Config): The full config. It is not changed.
        work_dir (str): The runner's work dir.
        validate (str): ``'end'``: validate once, after training. ``'as configured'``: as the config says.
        keep_checkpoints (bool): Whether to keep the config's checkpoint hook.
    """
    cfg = copy.deepcopy(cfg)
    hooks = cfg.get('default_hooks') or {}
    hooks = {name: hook for name, hook in hooks.items() if name != _VISUALIZATION_HOOK}
    hooks |= dict.fromkeys(_LOGGING_HOOKS)
    if not keep_checkpoints:
        hooks['checkpoint'] = None
    cfg.default_hooks = hooks
    cfg.visualizer = dict(type='Visualizer', vis_backends=[])
    cfg.log_level = 'WARNING'
    cfg.work_dir = work_dir
    cfg.experiment_name = 'cell'
    if validate == 'end' and cfg.get('train_cfg'):
        for length in ('max_epochs', 'max_iters'):
            if cfg.train_cfg.get(length):
                cfg.train_cfg.val_interval = cfg.train_cfg[length]
                cfg.train_cfg.pop('dynamic_intervals', None)
    return cfg
