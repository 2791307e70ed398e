"""The package's registries, children of mmengine's roots under the scope ``protuning_mm``.

A scoped name such as ``protuning_mm.ProTunedResNet`` builds from any registry of mmdet, mmseg or mmpretrain:
mmengine imports this module by the scope's name, so a config needs no ``custom_imports`` for it.
"""

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

MODELS = Registry('model', parent=MMENGINE_MODELS, scope='protuning_mm', locations=['protuning_mm.backbones'])
TUNINGS = Registry('tuning', scope='protuning_mm', locations=['protuning_mm.tunings'])
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope='protuning_mm', locations=['protuning_mm.engine'])
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
    scope='protuning_mm',
    locations=['protuning_mm.engine'],
)
# The data sets inherit from mmpretrain's, so mmpretrain is only imported when a scoped name is looked up.
DATASETS = Registry(
    'dataset', parent=MMENGINE_DATASETS, scope='protuning_mm', locations=['protuning_mm.data.classification']
)
TRANSFORMS = Registry(
    'transform', parent=MMENGINE_TRANSFORMS, scope='protuning_mm', locations=['protuning_mm.data.corruptions']
)
METRICS = Registry('metric', parent=MMENGINE_METRICS, scope='protuning_mm', locations=['protuning_mm.data.metrics'])
