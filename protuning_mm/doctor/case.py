"""What is examined: a config, and the model and optimizer that it builds."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from protuning_mm.engine.parameter_table import param_groups


@dataclass
class Case:
    """One config under examination.

    Args:
        cfg (Config): The config, with the command line laid over it.
        gpus (int): How many processes the training will have.
        device (str): Where the trial step runs.
        model (nn.Module, optional): What the config builds, in training mode, without any weights loaded.
    """

    cfg: Config
    gpus: int = 1
    device: str = 'cpu'
    model: nn.Module | None = None
    timm_downloads: list[str] = field(default_factory=list)

    @property
    def scope(self) -> str:
        return str(self.cfg.get('default_scope') or 'mmengine')

    @property
    def distributed(self) -> bool:
        return self.cfg.get('launcher', 'none') != 'none' or self.gpus > 1

    @property
    def batch_size(self) -> int | None:
        """Images a process and step; None without a training loader."""
        size = (self.cfg.get('train_dataloader') or {}).get('batch_size')
        return int(size) if size is not None else None

    @property
    def backbone(self) -> Any:
        return getattr(self.model, 'backbone', None)

    @cached_property
    def optim_wrapper(self) -> OptimWrapper | None:
        """The optimizer as the run would build it; None without one in the config.

        Raises:
            Exception: whatever its construction raises.
        """
        cfg = self.cfg.get('optim_wrapper')
        if not cfg or self.model is None:
            return None
        cfg = copy.deepcopy(cfg)
        if cfg.get('type') == 'AmpOptimWrapper':  # refuses to exist without a GPU, and the groups are the same
            cfg = {k: v for k, v in cfg.items() if k not in ('loss_scale', 'dtype', 'use_fsdp')} | {
                'type': 'OptimWrapper'
            }
        return build_optim_wrapper(self.model, cfg)

    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of the optimizer; of all of them where there are several."""
        return [] if self.optim_wrapper is None else param_groups(self.optim_wrapper)

    def names(self) -> dict[Any, str]:
        """Parameter -> its name in the model."""
        assert self.model is not None
        return {param: name for name, param in self.model.named_parameters()}


def build_model(case: Case) -> None:
    """Build the model through its host's registry, under its scope; nothing is downloaded or loaded.

    Raises:
        Exception: whatever its construction raises.
    """
    init_default_scope(case.scope)
    cfg = copy.deepcopy(case.cfg.model)
    if case.cfg.get('data_preprocessor'):  # as the runner hands it on
        cfg.setdefault('data_preprocessor', copy.deepcopy(case.cfg.data_preprocessor))
    case.timm_downloads = list(_without_timm_downloads(cfg, 'model'))
    with MODELS.switch_scope_and_registry(case.scope) as registry:
        case.model = registry.build(cfg)
    case.model.train()


def _without_timm_downloads(value: Any, key: str) -> Iterator[str]:
    """timm fetches weights while it builds: switch that off, and tell the keys where it was on."""
    if isinstance(value, dict):
        if value.get('pretrained') is True:
            value['pretrained'] = False
            yield f'{key}.pretrained'
        for name, item in value.items():
            yield from _without_timm_downloads(item, f'{key}.{name}')
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _without_timm_downloads(item, f'{key}.{i}')
