"""Building of plain backbones in mmdet, mmseg, mmpretrain (the hosts) or timm."""

import inspect
import re
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any, NamedTuple

from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from protuning_mm.stages import SettingError
from protuning_mm.weights.errors import CheckpointError

HOSTS = ('mmdet', 'mmseg', 'mmpretrain')
LOADED = 'a loaded state dict'  # value of `frozen_source` for values that come from no known file
_UNKNOWN = re.compile(r"got an unexpected keyword argument '(\w+)'")
_MISSING = re.compile(r'(\w+)\.__init__\(\) missing \d+ required .*?: (.*)')


class ArgumentError(SettingError):
    """An argument of a backbone's class is unknown or missing.

    Args:
        wrong (str): The message, without the list of arguments.
        taken (list[str]): Names of the arguments that the class takes.
    """

    def __init__(self, wrong: str, taken: Sequence[str] = ()) -> None:
        self.wrong = wrong
        self.taken = taken
        super().__init__(f'{wrong}. Known arguments: {", ".join(taken)}' if taken else wrong)


def current_host() -> str:
    """Return the name of the library whose classes are used by default.

    This is the default scope, which every config and every ``init_*`` function of the hosts sets. Without a default
    scope it is the first of mmdet, mmseg and mmpretrain that is already imported, else the first that is installed.

    Raises:
        ImportError: none of the three is installed.
    """
    scope = DefaultScope.get_current_instance()
    if scope is not None and scope.scope_name in HOSTS:
        return str(scope.scope_name)
    imported = [host for host in HOSTS if host in sys.modules]
    found = imported or [host for host in HOSTS if find_spec(host) is not None]
    if not found:
        raise ImportError(
            f'protuning_mm reads the backbones of {", ".join(HOSTS)}, but none of them is installed: '
            'pip install "protuning_mm[onedl]"'
        )
    return found[0]


def build_plain(cfg: dict[str, Any], host: str | None = None) -> nn.Module:
    """Build a host's own backbone, or a model of timm.

    Args:
        cfg (dict): The backbone's config, as the host takes it. For a model of timm: ``type='timm'`` and the arguments
            of ``timm.create_model``, with ``out_indices`` for a feature pyramid.
        host (str, optional): ``mmdet``, ``mmseg`` or ``mmpretrain``. Defaults to :func:`current_host`.

    Raises:
        SettingError: ``host`` is not one of the three, or the backbone's type or an argument is unknown.
    """
    if cfg.get('type') == 'timm':
        return _build_timm(**{key: value for key, value in cfg.items() if key != 'type'})
    host = host or current_host()
    if host not in HOSTS:
        raise SettingError(f'host={host!r}: must be one of {list(HOSTS)}')
    # Under another default scope, `ResNet` without a scope prefix would resolve to another library's class.
    with MODELS.switch_scope_and_registry(host) as registry:
        kind = cfg['type']
        found = registry.get(kind) if isinstance(kind, str) else kind
        if found is None:
            raise SettingError(
                f'backbone type={kind!r}: {host} has no class of that name. For a class of another library, write its '
                "scope too, such as 'mmpretrain.ConvNeXt'; for a model of timm, type='timm', model_name=…"
            )
        try:
            return registry.build(cfg)
        except TypeError as error:
            wrong = _wrong_argument(str(error), cfg, found)
            if wrong is None:
                raise
            raise ArgumentError(wrong, _arguments(found)) from None


class PlainNetwork(NamedTuple):
    """A plain backbone that was built or taken over.

    Args:
        network (nn.Module): The network.
        cfg (dict): The config that it was built from; empty for a network that was taken over.
        init_cfg (dict | list, optional): mmengine's ``init_cfg`` of its initial weights.
        ignored (dict): The settings of its config that were ignored.
        source (str, optional): Where its weights come from, if it has them already.
    """

    network: nn.Module
    cfg: dict[str, Any]
    init_cfg: Any
    ignored: dict[str, Any]
    source: str | None


def get_plain(backbone: Any, host: str | None, init_cfg: Any, pretrained: str | None, norm_eval: bool) -> PlainNetwork:
    """Build a backbone from its config, or take over a network with its weights.

    Inherited host configs contain ``frozen_stages`` and ``norm_eval``. The tuning decides what is frozen, so
    ``frozen_stages`` is always ignored.

    Args:
        backbone (dict | nn.Module): The config or the network.
        host (str, optional): See :func:`build_plain`.
        init_cfg (dict | list, optional): ``init_cfg`` of the tuned backbone.
        pretrained (str, optional): ``pretrained`` of the tuned backbone.
        norm_eval (bool): Whether the network follows ``train()``, so that its ``norm_eval`` counts.

    Raises:
        SettingError: ``backbone`` is neither, or a setting of it is wrong.
    """
    if isinstance(backbone, nn.Module):
        init_cfg = pop_init_cfg({}, init_cfg, pretrained)
        _unfreeze_stages(backbone)
        return PlainNetwork(backbone, {}, init_cfg, {}, getattr(backbone, 'pretrained_source', None) or LOADED)
    if not isinstance(backbone, Mapping) or 'type' not in backbone:
        raise SettingError(
            f"backbone={backbone!r}: must be a dict with a type (dict(type='ResNet', depth=50)), or a network"
        )
    cfg = dict(backbone)
    init_cfg = pop_init_cfg(cfg, init_cfg, pretrained)
    names = ('frozen_stages',) if norm_eval else ('frozen_stages', 'norm_eval')
    ignored = {key: cfg.pop(key) for key in names if key in cfg}
    network = build_plain(cfg, host)
    # timm loads pre-trained weights while it builds the model
    source = getattr(network, 'pretrained_source', None) or (LOADED if cfg.get('pretrained') is True else None)
    return PlainNetwork(network, cfg, init_cfg, ignored, source)


def _unfreeze_stages(network: Any) -> None:
    """Train again what ``frozen_stages`` of a host's network froze, and let its ``train()`` not freeze it again."""
    if getattr(network, 'frozen_stages', -1) > -1:
        network.frozen_stages = -1
        own = {id(param) for param in network.parameters(recurse=False)}  # such as fixed position embeddings
        for param in network.parameters():
            if id(param) not in own:
                param.requires_grad_(True)


def pop_init_cfg(cfg: dict[str, Any], init_cfg: Any, pretrained: str | None) -> Any:
    """Return the only given setting of the initial weights, and remove it from the backbone's config.

    Args:
        cfg (dict): The backbone's config; ``init_cfg`` and ``pretrained`` are removed from it.
        init_cfg (dict | list, optional): ``init_cfg`` of the tuned backbone.
        pretrained (str, optional): ``pretrained`` of the tuned backbone.

    Returns:
        dict | list: mmengine's ``init_cfg``; None if none is given.

    Raises:
        SettingError: more than one is given.
    """
    # timm and the hosts' TIMMBackbone load pretrained=True themselves
    of_timm = cfg.get('type') == 'timm' or isinstance(cfg.get('pretrained'), bool)
    written = {
        'pretrained': pretrained,
        'init_cfg': init_cfg,
        'backbone.init_cfg': cfg.pop('init_cfg', None),
        'backbone.pretrained': None if of_timm else cfg.pop('pretrained', None),
    }
    given = {key: value for key, value in written.items() if value is not None}
    if len(given) > 1:
        listed = ' and '.join(f'{key}={value!r}' for key, value in given.items())
        raise SettingError(f'{listed} both set the initial weights: keep one of them (set the other to None)')
    for key, value in given.items():
        if key.endswith('pretrained'):
            return dict(type='Pretrained', checkpoint=value)
        # mmdet's configs of PVT name a checkpoint without a type
        return dict(value, type='Pretrained') if isinstance(value, dict) and 'checkpoint' in value else value
    return None


def _wrong_argument(said: str, cfg: dict[str, Any], kind: Any) -> str | None:
    """Describe the unknown or missing argument that a TypeError reports; None if it reports something else."""
    name = f'{kind.__module__.split(".")[0]}.{kind.__name__}'
    unknown, missing = _UNKNOWN.search(said), _MISSING.match(said)
    if unknown is not None and unknown[1] in cfg:
        return f'{name} takes no {unknown[1]!r}'
    if missing is not None and missing[1] in {cls.__name__ for cls in getattr(kind, '__mro__', ())}:
        return f'{name} needs {missing[2]}'
    return None


def _arguments(kind: type) -> list[str]:
    """Return the names of a class's arguments, including those of its base classes."""
    inits = [vars(cls)['__init__'] for cls in kind.__mro__ if '__init__' in vars(cls)]
    parameters = [p for init in inits for p in list(inspect.signature(init).parameters.values())[1:]]
    return list(dict.fromkeys(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)))


def _build_timm(
    model_name: str = '', pretrained: bool = False, out_indices: Sequence[int] | None = None, **kwargs: Any
) -> nn.Module:
    """Build a model of timm without its classifier; ``pretrained`` works as in timm."""
    import timm

    if not isinstance(pretrained, bool):
        raise SettingError(
            f'pretrained={pretrained!r}: must be True or False for a model of timm; to load a file, set init_cfg'
        )
    if not (timm.is_model(model_name) or ':' in model_name):  # a colon denotes a model on a hub
        raise SettingError(
            f'model_name={model_name!r}: timm {timm.__version__} has no such model; '
            "timm.list_models('*resnet*') lists the models of a family"
        )
    try:
        model: Any = timm.create_model(model_name, pretrained=pretrained, num_classes=0, **kwargs)
    except TypeError as error:
        unknown = _UNKNOWN.search(str(error))
        if unknown is None or unknown[1] not in kwargs:
            raise
        raise ArgumentError(f"timm's {model_name} takes no {unknown[1]!r}") from None
    model.out_indices = tuple(out_indices) if isinstance(out_indices, Sequence) else out_indices
    model.pretrained_source = kwargs.get('checkpoint_path') or (f'timm://{model_name}' if pretrained else None)
    model.fetch_pretrained = partial(
        timm.create_model, model_name, **{**kwargs, 'pretrained': True, 'num_classes': 0, 'checkpoint_path': ''}
    )
    return model


def read_timm(plain: nn.Module, source: str) -> dict[str, Tensor]:
    """Fetch the published weights of a model of timm again.

    Args:
        plain (nn.Module): The model, built by :func:`build_plain`.
        source (str): ``timm://<model name>``. The name must be that of ``plain``; no other model is ever built.

    Returns:
        dict: The state dict of the pre-trained model.

    Raises:
        CheckpointError: ``source`` names another model than ``plain``, or the weights cannot be fetched.
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
