from typing import Any

import pytest


@pytest.fixture(scope='session')
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Small tasks of the three hosts."""
    from tests.test_serving.stores import Tasks  # needs the extra `serve`

    return Tasks(tmp_path_factory.mktemp('serving'))
