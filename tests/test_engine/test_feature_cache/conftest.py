"""Files of the small runs, which are made once, and runs that do not format their configs."""

from pathlib import Path

import pytest
from mmengine.config import Config

from tests.mini import write_backbone
from tests.test_engine.test_feature_cache.small_run import write_images


@pytest.fixture(scope='session')
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, and images of three classes; they are not to be changed."""
    folder = tmp_path_factory.mktemp('small_run')
    write_backbone(folder / 'base.pth', 'mmpretrain', stem_channels=8)
    write_images(folder / 'images')
    return folder


@pytest.fixture(autouse=True)
def unformatted_configs(monkeypatch: pytest.MonkeyPatch) -> None:
    """mmengine formats a config several times a run, which takes most of a small run's time."""
    monkeypatch.setattr(Config, 'pretty_text', property(lambda cfg: f'config = {cfg.to_dict()!r}\n'))
