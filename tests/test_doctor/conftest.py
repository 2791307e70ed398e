"""Small configs that the doctor's tests share."""

import pytest

from tests.test_doctor.examined import Mini


@pytest.fixture(scope='session')
def mini(tmp_path_factory: pytest.TempPathFactory) -> Mini:
    return Mini(tmp_path_factory.mktemp('doctor'))
