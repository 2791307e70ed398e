"""Which of mmdet, mmseg and mmpretrain a plain backbone comes from, and how it is built there."""

import sys
from importlib.util import find_spec
from typing import Any

from mmengine.registry import MODELS, DefaultScope
from torch import nn

HOSTS = ('mmdet', 'mmseg', 'mmpretrain')


def current_host() -> str:
    """Name the library whose classes do the work.

    The default scope decides, which every config and every ``init_*`` function of the hosts sets; without one, the
    first of mmdet, mmseg and mmpretrain that is imported already, then the first that is installed.

    Raises:
        ImportError: none of the three is installed.
    """
    scope = DefaultScope.get_current_instance()
    if scope is not None and scope.scope_name in HOSTS:
        return str(scope.scope_name)
    for host in HOSTS:
        if host in sys.modules:
            return host
    for host in HOSTS:
        if find_spec(host) is not None:
            return host
    raise ImportError(
        f'protuning_mm reads the backbones of {", ".join(HOSTS)}, but none of them is installed: '
        'pip install "protuning_mm[onedl]"'
    )


def build_plain(cfg: dict[str, Any], host: str | None = None) -> nn.Module:
    """Build a host's own backbone.

    Args:
        cfg (dict): The backbone's config in the host's words.
        host (str, optional): ``mmdet``, ``mmseg`` or ``mmpretrain``. Defaults to :func:`current_host`.

    Raises:
        ValueError: ``host`` is none of the three.
    """
    host = host or current_host()
    if host not in HOSTS:
        raise ValueError(f'host={host!r}: must be one of {list(HOSTS)}')
    # Under another default scope a bare `ResNet` finds another library's class of that name.
    with MODELS.switch_scope_and_registry(host) as registry:
        return registry.build(cfg)
