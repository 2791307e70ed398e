"""A config together with the model and the optimizer that it builds."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import MODELS, Registry, init_default_scope

from protuning_mm.engine.parameter_table import param_groups


@dataclass
class TrainingSetup:
    """A config to be checked, the resources of its training, and the model and optimizer that it builds.

    Args:
        cfg (Config): The config, with the options of the command line applied.
        gpus (int): Number of processes that the training will have. Defaults to 1.
        device (str): Device of the trial step. Defaults to ``'cpu'``.
        model (nn.Module, optional): The config's model, in training mode, without loaded weights.
        timm_downloads (list[str]): Config keys that make timm download weights.
    """

    cfg: Config
    gpus: int = 1
    device: str = 'cpu'
    model: Any = None
    timm_downloads: list[str] = field(default_factory=list)

    @property
    def scope(self) -> str:
        return str(self.cfg.get('default_scope') or 'mmengine')

    @property
    def distributed(self) -> bool:
        return self.cfg.get('launcher', 'none') != 'none' or self.gpus > 1

    @property
    def batch_size(self) -> int | None:
        """Number of images per process and step; None if the config has no training data loader."""
        size = (self.cfg.get('train_dataloader') or {}).get('batch_size')
        return int(size) if size is not None else None

    @property
    def backbone(self) -> Any:
        return getattr(self.model, 'backbone', None)

    @cached_property
    def optim_wrapper(self) -> OptimWrapper | None:
        """The optimizer wrapper, built as the run builds it; None if the config has none.

        Raises:
            Exception: any error of the constructor.
        """
        cfg = self.cfg.get('optim_wrapper')
        if not cfg or self.model is None:
            return None
        cfg = copy.deepcopy(cfg)
        if cfg.get('type') == 'AmpOptimWrapper':  # cannot be built without a GPU; its parameter groups are the same
            kept = {k: v for k, v in cfg.items() if k not in ('loss_scale', 'dtype', 'use_fsdp')}
            cfg = kept | dict(type='OptimWrapper')
        return build_optim_wrapper(self.model, cfg)

    def param_groups(self) -> list[dict[str, Any]]:
        """Return the parameter groups of all optimizers."""
        return [] if self.optim_wrapper is None else param_groups(self.optim_wrapper)


def build_model(setup: TrainingSetup) -> None:
    """Build the model of ``setup.cfg`` under its default scope, without downloading or loading weights.

    Raises:
        Exception: any error of the constructor.
    """
    init_default_scope(setup.scope)
    cfg = copy.deepcopy(setup.cfg.model)
    if setup.cfg.get('data_preprocessor'):  # the runner passes it to the model, too
        cfg.setdefault('data_preprocessor', copy.deepcopy(setup.cfg.data_preprocessor))
    setup.timm_downloads = list(_disable_timm_downloads(cfg, 'model'))
    setup.model = build_in_scope(MODELS, cfg, setup.scope)
    setup.model.train()


def build_in_scope(registry: Registry, cfg: Any, scope: str) -> Any:
    """Build an object from a copy of its config, with the classes of a scope."""
    with registry.switch_scope_and_registry(scope) as found:
        return found.build(copy.deepcopy(cfg))


def _disable_timm_downloads(value: Any, key: str) -> Iterator[str]:
    """Set ``pretrained=False`` where it is True, since timm downloads weights while it builds; yield the keys."""
    if isinstance(value, dict):
        if value.get('pretrained') is True:
            value['pretrained'] = False
            yield f'{key}.pretrained'
        for name, item in value.items():
            yield from _disable_timm_downloads(item, f'{key}.{name}')
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _disable_timm_downloads(item, f'{key}.{i}')


def find_pretrained(module: Any) -> Any:
    """Return the setting in a module's ``init_cfg`` that loads a checkpoint; None if there is none."""
    cfgs = getattr(module, 'init_cfg', None)
    for cfg in cfgs if isinstance(cfgs, list | tuple) else [cfgs]:
        if isinstance(cfg, dict) and cfg.get('type') == 'Pretrained':
            return cfg
    return None
