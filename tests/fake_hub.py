"""A server on this machine that speaks the endpoints of the Hugging Face Hub that ``huggingface_hub`` uses here."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

TOKEN = 'hf_of_the_tests'


class Repo:
    """A repository: its commits, each with all files."""

    def __init__(self, private: bool) -> None:
        self.private = private
        self.commits: dict[str, dict[str, bytes]] = {}
        self.head = ''
        self.commit({})

    def commit(self, files: dict[str, bytes]) -> str:
        self.head = hashlib.sha1(f'{len(self.commits)} {sorted(files)}'.encode()).hexdigest()
        self.commits[self.head] = files
        return self.head

    def find(self, revision: str) -> str | None:
        return self.head if revision == 'main' else revision if revision in self.commits else None


class FakeHub:
    """The server's state; ``requests`` lists method and path of all requests."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.url = ''

    def files(self, repo: str) -> dict[str, bytes]:
        found = self.repos[repo]
        return found.commits[found.head]


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """Run a server on a free port of 127.0.0.1."""
    hub = FakeHub()
    server = ThreadingHTTPServer(('127.0.0.1', 0), type('Handler', (_Handler,), dict(hub=hub)))
    hub.url = f'http://127.0.0.1:{server.server_port}'
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = 'HTTP/1.1'

    def log_message(self, *_: Any) -> None:
        pass

    def handle_any(self) -> None:
        self.body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
        path = urlsplit(self.path).path
        self.hub.requests.append(f'{self.command} {path}')
        for pattern, answer in _ROUTES:
            if found := re.fullmatch(pattern, f'{self.command} {path}'):
                answer(self, *found.groups())
                return
        self.send(501, dict(error=f'the fake Hub has no {self.command} {path}'))

    do_GET = do_HEAD = do_POST = do_PUT = handle_any  # noqa: N815 – named by http.server

    @property
    def authorized(self) -> bool:
        return self.headers.get('Authorization') == f'Bearer {TOKEN}'

    def send(self, status: int, content: Any = None, **headers: str) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {'Content-Length': str(len(data)), **headers}.items():
            self.send_header(name.replace('_', '-'), value)
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(data)

    def repo(self, name: str, write: bool = False) -> Repo | None:
        """Find a repository; answer with an error if there is none for this client."""
        found = self.hub.repos.get(name)
        if found is None or (found.private and not self.authorized):
            status = 404 if self.authorized else 401
            self.send(status, dict(error='Repository not found'), X_Error_Code='RepoNotFound')
            return None
        if write and not self.authorized:
            self.send(403, dict(error='You do not have write access to this repository'))
            return None
        return found

    def create(self) -> None:
        sent = json.loads(self.body)
        name = f'{sent["organization"]}/{sent["name"]}'
        if not self.authorized:
            self.send(401, dict(error='Invalid username or password.'))
        elif name in self.hub.repos:
            self.send(409, dict(error='You already created this model repo', url=f'{self.hub.url}/{name}'))
        else:
            self.hub.repos[name] = Repo(bool(sent.get('private')) or sent.get('visibility') == 'private')
            self.send(200, dict(url=f'{self.hub.url}/{name}'))

    def validate(self) -> None:
        self.send(200, dict(errors=[], warnings=[]))

    def tree(self, name: str, revision: str) -> None:
        if repo := self.repo(name):
            commit = repo.find(revision)
            files = repo.commits[commit or repo.head]
            self.send(200, [dict(type='file', path=p, size=len(d), oid=_sha1(d)) for p, d in files.items()])

    def preupload(self, name: str, revision: str) -> None:
        if self.repo(name, write=True):
            files = json.loads(self.body)['files']
            modes = {each['path']: 'lfs' if each['path'].endswith('.safetensors') else 'regular' for each in files}
            self.send(200, dict(files=[dict(path=p, uploadMode=m, shouldIgnore=False) for p, m in modes.items()]))

    def batch(self, name: str) -> None:
        if self.repo(name, write=True):
            wanted = json.loads(self.body)['objects']
            objects = [
                dict(**each, actions=dict(upload=dict(href=f'{self.hub.url}/objects/{each["oid"]}'))) for each in wanted
            ]
            self.send(200, dict(transfer='basic', objects=objects))

    def put_object(self, oid: str) -> None:
        assert hashlib.sha256(self.body).hexdigest() == oid
        self.hub.objects[oid] = self.body
        self.send(200)

    def commit(self, name: str, revision: str) -> None:
        repo = self.repo(name, write=True)
        if repo is None:
            return
        files = dict(repo.commits[repo.head])
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item['value']
            if item['key'] == 'file':
                files[value['path']] = base64.b64decode(value['content'])
            elif item['key'] == 'lfsFile':
                files[value['path']] = self.hub.objects[value['oid']]
            elif item['key'] == 'deletedFile':
                del files[value['path']]
        oid = repo.commit(files)
        self.send(200, dict(success=True, commitOid=oid, commitUrl=f'{self.hub.url}/{name}/commit/{oid}'))

    def resolve(self, name: str, revision: str, path: str) -> None:
        repo = self.repo(name)
        if repo is None:
            return
        commit = repo.find(revision)
        if commit is None:
            self.send(404, dict(error='Invalid rev id'), X_Error_Code='RevisionNotFound')
        elif path not in repo.commits[commit]:
            self.send(404, dict(error='Entry not found'), X_Error_Code='EntryNotFound', X_Repo_Commit=commit)
        else:
            data = repo.commits[commit][path]
            self.send(200, data, ETag=f'"{_sha1(data)}"', X_Repo_Commit=commit)


def _sha1(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


_NAME = r'([\w.-]+/[\w.-]+)'
_ROUTES: list[tuple[str, Any]] = [
    (r'POST /api/repos/create', _Handler.create),
    (r'POST /api/validate-yaml', _Handler.validate),
    (rf'GET /api/models/{_NAME}/tree/([\w.-]+)', _Handler.tree),
    (rf'POST /api/models/{_NAME}/preupload/([\w.-]+)', _Handler.preupload),
    (rf'POST /{_NAME}\.git/info/lfs/objects/batch', _Handler.batch),
    (r'PUT /objects/(\w+)', _Handler.put_object),
    (rf'POST /api/models/{_NAME}/commit/([\w.-]+)', _Handler.commit),
    (rf'(?:GET|HEAD) /{_NAME}/resolve/([\w.-]+)/(.+)', _Handler.resolve),
]
