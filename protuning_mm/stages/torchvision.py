"""Classification networks of torchvision without their classifier."""

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from protuning_mm.stages.readers import reading_error, register_reader
from protuning_mm.stages.structure import Stages
from protuning_mm.stages.traced import read_traced

_CLASSIFIERS = ('fc', 'classifier', 'head', 'heads')


@register_reader('torchvision.*')
def read_torchvision(plain: nn.Module, num_stages: int) -> Stages:
    """Read a network of torchvision by a trial run; its output is the pooled feature.

    Raises:
        ReadingError: it has its classifier, or its modules do not run in sequence.
    """
    heads = [getattr(plain, name) for name in _CLASSIFIERS if hasattr(plain, name)]
    if any(isinstance(part, nn.Conv2d) for head in heads for part in head.modules()):
        raise reading_error(plain, 'its classifier is a convolution. Tune its features, and add a head of your own')
    path = find_classifier(plain)
    if path is not None:
        raise reading_error(
            plain,
            f'{path!r} is its classifier. protuning_mm.tune(network) separates the two; or set it to nn.Identity()',
        )
    return replace(read_traced(plain, num_stages), run=_pooled)


def find_classifier(plain: nn.Module) -> str | None:
    """Return the path of the last linear layer of a network of torchvision, unless it is ``nn.Identity``."""
    found = [
        (f'{name}.{path}'.rstrip('.'), module)
        for name in _CLASSIFIERS
        for path, module in (getattr(plain, name).named_modules() if hasattr(plain, name) else ())
        if not any(module.children())
    ]
    return found[-1][0] if found and isinstance(found[-1][1], nn.Linear) else None


def _pooled(plain: nn.Module, image: Tensor) -> tuple[Any]:
    out = plain(image)
    return (out if isinstance(out, Tensor) else out[0],)  # Inception and GoogLeNet add auxiliary outputs in training
