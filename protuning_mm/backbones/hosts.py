"""Which of mmdet, mmseg and mmpretrain a plain backbone comes from, and how it is built there."""

import sys
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from protuning_mm.checkpoints.errors import CheckpointError

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
    """Build a host's own backbone, or a model of timm.

    Args:
        cfg (dict): The backbone's config in the host's words; ``type='timm'`` and the arguments of
            ``timm.create_model`` for a model of timm, with ``out_indices`` for a pyramid.
        host (str, optional): ``mmdet``, ``mmseg`` or ``mmpretrain``. Defaults to :func:`current_host`.

    Raises:
        ValueError: ``host`` is none of the three.
    """
    if cfg.get('type') == 'timm':
        return _build_timm(**{key: value for key, value in cfg.items() if key != 'type'})
    host = host or current_host()
    if host not in HOSTS:
        raise ValueError(f'host={host!r}: must be one of {list(HOSTS)}')
    # Under another default scope a bare `ResNet` finds another library's class of that name.
    with MODELS.switch_scope_and_registry(host) as registry:
        return registry.build(cfg)


def _build_timm(
    model_name: str, pretrained: bool = False, out_indices: Sequence[int] | None = None, **kwargs: Any
) -> nn.Module:
    """Build a model of timm without its classifier; ``pretrained`` is timm's own mechanism."""
    import timm

    if not isinstance(pretrained, bool):
        raise ValueError(f"pretrained={pretrained!r}: timm's is True or False; a file is named by init_cfg")
    model: Any = timm.create_model(model_name, pretrained=pretrained, num_classes=0, **kwargs)
    model.out_indices = None if out_indices is None else tuple(out_indices)
    model.pretrained_source = kwargs.get('checkpoint_path') or (f'timm://{model_name}' if pretrained else None)
    model.fetch_pretrained = partial(
        timm.create_model, model_name, **{**kwargs, 'pretrained': True, 'num_classes': 0, 'checkpoint_path': ''}
    )
    return model


def read_timm(plain: nn.Module, source: str) -> dict[str, Tensor]:
    """Fetch the published weights of a model of timm once more.

    Args:
        plain (nn.Module): The model, as :func:`build_plain` made it.
        source (str): ``timm://`` and its name; no other model is ever built.

    Raises:
        CheckpointError: ``plain`` is not that model of timm, or its weights cannot be fetched.
    """
    fetch: Any = getattr(plain, 'fetch_pretrained', None)
    name = fetch.args[0] if fetch else type(plain).__name__
    if fetch is None or source != f'timm://{name}':
        raise CheckpointError(f'{source} is another network than {name}, which the config builds')
    try:
        model: nn.Module = fetch()
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f'timm cannot fetch the weights of {name}: {str(error).splitlines()[0]}') from None
    return model.state_dict()
