"""Small configs that the doctor's tests share."""

import pytest

from tests.test_doctor.doctor_runs import MiniConfigs


@pytest.fixture(scope='session')
def mini(tmp_path_factory: pytest.TempPathFactory) -> MiniConfigs:
    return MiniConfigs(tmp_path_factory.mktemp('doctor'))
