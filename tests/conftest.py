"""What every test shares: a clean default scope, and small weights with statistics that are not the initial ones."""

import gc
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope

from tests.plain import fill, plain_resnet


@pytest.fixture(autouse=True)
def clean_scope() -> Iterator[None]:
    """The hosts' APIs and runners set a default scope for the whole process; no test sees another's."""
    torch.manual_seed(0)
    DefaultScope._instance_dict.clear()
    yield
    DefaultScope._instance_dict.clear()


@pytest.fixture(scope='module', autouse=True)
def collector_sees_what_is_new() -> None:
    """mmengine collects garbage for every data set, which takes seconds where a process has run a thousand tests."""
    gc.collect()
    gc.freeze()


# what patches.prepare_process replaces in the host libraries for the rest of a process
REPLACED = (
    ('mmengine.dataset', 'BaseDataset', '_serialize_data'),
    ('mmseg.datasets', 'BaseSegDataset', 'get_data_info'),
    ('mmseg.datasets.transforms', 'LoadAnnotations', '_load_seg_map'),
    ('mmdet.datasets.transforms', 'LoadAnnotations', '_load_seg_map'),
    ('mmdet.datasets.transforms', 'LoadAnnotations', '_load_masks'),
    ('mmdet.evaluation', 'CocoMetric', '__init__'),
    ('mmdet.evaluation', 'CocoPanopticMetric', '__init__'),
    ('mmdet.evaluation', 'DODCocoMetric', '__init__'),
)


@pytest.fixture(autouse=True)
def restore_replaced_methods() -> Iterator[None]:
    """Undo the patches of a tool that a test has called in its process."""
    yield
    for module, name, method in REPLACED:
        if module in sys.modules:
            cls = getattr(sys.modules[module], name)
            own = vars(cls).get(method)
            if hasattr(own, '_replaced_by_protuning_mm'):
                setattr(cls, method, own.__wrapped__)


@pytest.fixture(scope='session')
def weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Make a file with a plain host ResNet's weights, once for each variant: ``weights('mmdet', depth=18)``."""
    folder = tmp_path_factory.mktemp('weights')
    made: dict[str, Path] = {}

    def path_of(host: str = 'mmdet', **resnet: object) -> str:
        name = f'{host}{sorted(resnet.items())}'
        if name not in made:
            made[name] = folder / f'{len(made)}.pth'
            torch.save(fill(plain_resnet(host, **resnet)).state_dict(), made[name])
        return str(made[name])

    return path_of
