"""Building the model of a config under the config's default scope."""

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from protuning_mm.engine.errors import ConfigError


def build_model(cfg: Config) -> nn.Module:
    """Build ``cfg.model`` under its default scope, without loading weights.

    Raises:
        ConfigError: the config has no model.
    """
    if not isinstance(cfg.get('model'), dict):
        raise ConfigError(f'the config {cfg.filename or ""} has no model: it must set model=dict(type=…)')
    scope = cfg.get('default_scope', 'mmengine')
    init_default_scope(scope)
    with MODELS.switch_scope_and_registry(scope) as registry:
        return registry.build(cfg.model)
