"""What every test shares: a clean default scope, and small weights with statistics that are not the initial ones."""

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
