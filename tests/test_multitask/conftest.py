from pathlib import Path

import pytest

from tests.test_multitask.tasks import Workshop


@pytest.fixture(scope='module')
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Writes the tasks of one test module."""
    folder: Path = tmp_path_factory.mktemp('workshop')
    return Workshop(folder)
