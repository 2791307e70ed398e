"""A config's model, built as its host builds it."""

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn


def build_model(cfg: Config) -> nn.Module:
    """Build ``cfg.model`` under its default scope, without loading weights."""
    scope = cfg.get('default_scope', 'mmengine')
    init_default_scope(scope)
    with MODELS.switch_scope_and_registry(scope) as registry:
        return registry.build(cfg.model)
