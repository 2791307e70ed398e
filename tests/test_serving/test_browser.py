"""The page in a browser without a window: a picture is dropped, and the results of two tasks are switched on and off.

Needs ``pip install playwright`` and Chromium.
"""

import base64
import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip('fastapi', reason='the extra `serve` is not installed')
pytest.importorskip('playwright', reason='needs playwright')

from playwright.sync_api import expect, sync_playwright

from tests.test_serving.stores import Tasks
from tests.test_serving.test_command import Server

CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason='needs Chromium')]
DROP = """([element, name, content]) => {
  const transfer = new DataTransfer(), bytes = Uint8Array.from(atob(content), c => c.charCodeAt(0));
  transfer.items.add(new File([bytes], name, { type: 'image/jpeg' }));
  element.dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""


@pytest.fixture(scope='module')
def server(tasks: Tasks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server('--tasks', tasks.store(tmp_path_factory.mktemp('browser') / 's', 'det', 'seg'))
    yield server
    server.process.kill()
    server.process.wait()


@pytest.fixture
def page(server: Server) -> Iterator[Any]:
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        page = browser.new_page()
        page.set_default_timeout(60_000)
        page.hosts, page.problems = set(), []
        page.on('request', lambda request: page.hosts.add(re.sub(r'(//[^/]*).*', r'\1', request.url)))
        page.on('console', lambda message: page.problems.append(message.text) if message.type == 'error' else None)
        page.on('pageerror', lambda error: page.problems.append(str(error)))
        page.goto(f'http://127.0.0.1:{server.port}/')
        page.wait_for_selector('#tasks input')
        yield page
        browser.close()


def drop(page: Any, name: str, content: bytes) -> None:
    page.evaluate(DROP, [page.query_selector('#drop'), name, base64.b64encode(content).decode()])


def pixels(page: Any) -> str:
    found: str = page.evaluate("document.getElementById('canvas').toDataURL()")
    return found


def test_a_picture_with_two_tasks(page: Any, server: Server, tasks: Tasks) -> None:
    assert page.is_disabled('#run')
    drop(page, 'a.jpg', tasks.images[0].read_bytes())
    expect(page.locator('#run')).to_be_enabled()
    plain = pixels(page)
    assert [label.inner_text() for label in page.query_selector_all('#tasks label')] == ['det', 'seg']
    page.click('#run')
    expect(page.locator('#times')).not_to_be_empty(timeout=60_000)
    found = re.fullmatch(
        r'2 tasks: [\d.]+ s of computing, [\d.]+ s with the transfer; the server takes (\d+) MiB',
        page.inner_text('#times'),
    )
    assert found and int(found[1]) > 100
    page.evaluate("document.getElementById('score').value = 0; document.getElementById('score').oninput()")
    with_results = pixels(page)
    assert with_results != plain
    legend = [line.inner_text() for line in page.query_selector_all('#legend li')]
    assert any('det' in line for line in legend) and any('seg' in line for line in legend)
    # each switch changes the picture, and all of them together give the plain one
    seen = {plain, with_results}
    for switch in ('masks', 'boxes', 'names'):
        page.uncheck(f'#{switch}')
        seen.add(pixels(page))
    assert len(seen) == 4 and pixels(page) == plain
    for switch in ('masks', 'boxes', 'names'):
        page.check(f'#{switch}')
    assert pixels(page) == with_results
    page.uncheck('#legend input')
    assert pixels(page) != with_results
    assert page.hosts - {'data:,', 'blob:http://127.0.0.1:' + str(server.port)} == {f'http://127.0.0.1:{server.port}'}
    assert page.problems == []


def test_what_is_no_picture(page: Any) -> None:
    drop(page, 'a.jpg', b'no picture')
    expect(page.locator('#message')).not_to_be_empty()
    assert page.inner_text('#message') == 'This browser cannot show that file.'
    assert page.is_disabled('#run')
