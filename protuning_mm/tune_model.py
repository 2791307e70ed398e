"""One call that freezes a backbone and tunes it: in a config, a model of the hosts, or a network of others."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import Tensor, nn

from protuning_mm.backbones import TunedBackbone, tuned_backbones
from protuning_mm.backbones.unchanged_on_error import unchanged_on_error
from protuning_mm.engine.config import read_config
from protuning_mm.engine.tune_config import BACKBONE_KEYS, tune_config
from protuning_mm.stages import ReadingError, read_stages
from protuning_mm.stages.readers import describe
from protuning_mm.stages.torchvision import find_classifier
from protuning_mm.tunings import TuningError
from protuning_mm.tunings.build import TuningCfg


class TunedClassifier(nn.Module):
    """A tuned backbone and the classifier of the network that it came from.

    Args:
        backbone (TunedBackbone): Its only output is the pooled feature.
        head (nn.Module): The classifier. It is trained.

    Shape:
        - Input: (N, 3, H, W)
        - Output: (N, number of classes)
    """

    def __init__(self, backbone: TunedBackbone, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, x: Tensor) -> Tensor:
        (feature,) = self.backbone(x)
        logits: Tensor = self.head(feature)
        return logits


def tune(target: Config | str | Path | nn.Module, tuning: TuningCfg = 'pro', **settings: Any) -> Any:
    """Freeze the backbone of a config or a model, and tune it.

    Args:
        target (Config | str | Path | nn.Module): A config of the hosts or its path, also ``mmdet::<path>``. Or a model:
            a detector, segmentor or classifier of the hosts, one of their backbones, or a network of timm or
            torchvision, all with their weights. The model is changed in place: use only the returned one from then on.
            If this fails, it is unchanged.
        tuning (str | dict | list): One or several tunings, as :class:`~protuning_mm.TunedBackbone` takes them. Defaults
            to ``'pro'``.
        **settings: Further arguments of :class:`~protuning_mm.TunedBackbone` if ``target`` is a model.

    Returns:
        Config | nn.Module: A config for ``Runner.from_cfg``, the model with a tuned backbone, a
        :class:`~protuning_mm.TunedBackbone`, or for a network of timm or torchvision with a classifier a
        :class:`TunedClassifier`.

    Raises:
        ConfigError: the config cannot be read or has no backbone.
        ReadingError: the model has no backbone that can be read.
        TuningError: the tuning does not fit the backbone, or the model is tuned already.
    """
    if not isinstance(target, nn.Module):
        return tune_config(target if isinstance(target, Config) else read_config(target), tuning)
    if tuned_backbones(target):
        raise TuningError(f'{type(target).__name__} is tuned already; build it again to tune it in another way')
    with unchanged_on_error(target):
        return _tune_model(target, tuning, settings)


def _tune_model(model: nn.Module, tuning: TuningCfg, settings: dict[str, Any]) -> nn.Module:
    backbones = list(_find_backbones(model))
    for holder, name in backbones:
        setattr(holder, name, TunedBackbone(getattr(holder, name), tuning, **settings))
    if backbones:
        return model
    if hasattr(model, 'get_classifier') and hasattr(model, 'reset_classifier'):
        return _tune_timm(model, tuning, settings)
    classifier = find_classifier(model) if type(model).__module__.startswith('torchvision.') else None
    if classifier is not None:
        head = model.get_submodule(classifier)
        model.set_submodule(classifier, nn.Identity())
        return TunedClassifier(TunedBackbone(model, tuning, **settings), head)
    try:
        read_stages(model)
    except ReadingError as error:
        raise ReadingError(f'{describe(model)} has no child {" or ".join(BACKBONE_KEYS)}, and {error}') from None
    return TunedBackbone(model, tuning, **settings)


def _find_backbones(module: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Yield holder and name of each backbone, except those of a teacher, which is not trained."""
    for name, child in list(module.named_children()):
        if name in BACKBONE_KEYS and isinstance(child, nn.ModuleList | nn.ModuleDict):  # several backbones
            yield from ((child, part) for part, _ in child.named_children())
        elif name in BACKBONE_KEYS:
            yield module, name
        elif not name.startswith('teacher'):
            yield from _find_backbones(child)


def _tune_timm(network: Any, tuning: TuningCfg, settings: dict[str, Any]) -> nn.Module:
    """Separate the classifier of a timm network from the network, which is frozen."""
    head = network.get_classifier()
    if isinstance(head, nn.Identity) or getattr(network, 'num_classes', 0) == 0:
        return TunedBackbone(network, tuning, **settings)
    if not isinstance(head, nn.Linear):
        raise TuningError(
            f'{describe(network)} has a classifier of type {type(head).__name__}, not one linear layer: create it with '
            'num_classes=0 and add a head of your own'
        )
    network.reset_classifier(0)
    return TunedClassifier(TunedBackbone(network, tuning, **settings), head)
