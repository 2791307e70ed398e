"""mmengine's Runner without what a run among hundreds does not need, and a config to match."""

import copy
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

# hooks and tools that only show or keep: nothing that is measured depends on them
_LOGGING = ('logger', 'timer')
_SHOWING = ('visualization',)


class _Quiet:
    """Asks no compiler or GPU for its version (1 to 4 s) and formats no config (0.1 s and more)."""

    def _log_env(self, env_cfg: dict[str, Any]) -> None:
        pass

    def dump_config(self) -> None:
        pass


def quiet_runner(cfg: Config) -> Any:
    """Build a run's runner: the class that the config names, or mmengine's own."""
    object.__setattr__(cfg, '_format_python_code', False)  # a hook keeps the config's text: yapf takes 0.2 s for it
    kind: Any = RUNNERS.get(cfg.runner_type) if 'runner_type' in cfg else Runner
    quiet: Any = type(kind.__name__, (_Quiet, kind), {})
    return quiet.from_cfg(cfg)


def quiet_config(cfg: Config, work_dir: str, validate: str, keep_checkpoints: bool) -> Config:
    """Switch off what only shows or keeps, and where asked validate once, at the end.

    Args:
        cfg (Config): The whole config; it is not changed.
        work_dir (str): Where the runner may write.
        validate (str): ``'end'`` or ``'as configured'``.
        keep_checkpoints (bool): Whether the config's checkpoint hook stays.
    """
    cfg = copy.deepcopy(cfg)
    hooks = cfg.get('default_hooks') or {}
    hooks = {name: hook for name, hook in hooks.items() if name not in _SHOWING}
    hooks |= dict.fromkeys(_LOGGING)
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


def device_name() -> str:
    """The device that mmengine will train on."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU'
