"""Two runs do not compute features in one folder at the same time."""

import logging
import threading
import time
from pathlib import Path

import pytest

from protuning_mm.engine.feature_cache.folder_lock import lock_folder


def test_the_second_run_waits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logger, inside, done = logging.getLogger('run'), threading.Event(), list[str]()

    def first() -> None:
        with lock_folder(tmp_path, logger):
            inside.set()
            time.sleep(0.2)
            done.append('first')

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait()
    with caplog.at_level('INFO'), lock_folder(tmp_path, logger):
        done.append('second')
    thread.join()
    assert done == ['first', 'second'] and 'waiting for another run' in caplog.text


def test_released_after_an_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger('run')
    with pytest.raises(KeyError), lock_folder(tmp_path, logger):
        raise KeyError
    with caplog.at_level('INFO'), lock_folder(tmp_path, logger):
        assert caplog.text == ''
