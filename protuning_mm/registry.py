"""The package's registries, under the scope ``protuning_mm``. All but ``TUNINGS`` are children of mmengine's roots.

A scoped name such as ``protuning_mm.ProTunedResNet`` builds from any registry of mmdet, mmseg or mmpretrain:
mmengine imports this module by the scope's name, so a config needs no ``custom_imports`` for it.
"""

from mmengine.registry import Registry, root


def _child_of(parent: Registry, location: str) -> Registry:
    """Make a registry under mmengine's root; ``location`` is imported when a scoped name is first looked up."""
    return Registry(parent.name, parent=parent, scope='protuning_mm', locations=[f'protuning_mm.{location}'])


TUNINGS = Registry('tuning', scope='protuning_mm', locations=['protuning_mm.tunings'])
MODELS = _child_of(root.MODELS, 'backbones')
HOOKS = _child_of(root.HOOKS, 'engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child_of(root.OPTIM_WRAPPER_CONSTRUCTORS, 'engine')
# importing this location imports mmpretrain, whose data sets these inherit
DATASETS = _child_of(root.DATASETS, 'data.classification')
TRANSFORMS = _child_of(root.TRANSFORMS, 'data.corruptions')
METRICS = _child_of(root.METRICS, 'data.metrics')
