"""Building the runner of a config, with the hooks that check every run."""

from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from protuning_mm.engine import TuningHook
from protuning_mm.engine.hooks.label_check_hook import LabelCheckHook


def build_runner(cfg: Config) -> Runner:
    """Build a config's runner and register the label check, and ``TuningHook`` unless the config has it.

    Args:
        cfg (Config): The complete config.
    """
    runner: Runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    if not any(isinstance(hook, TuningHook) for hook in runner.hooks):
        runner.register_hook(TuningHook())
    runner.register_hook(LabelCheckHook())
    return runner
