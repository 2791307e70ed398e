"""The server on Ray Serve: fronts take requests, replicas hold the tasks that they are asked for.

A front sends a request to a replica that holds its task, as Ray Serve's model multiplexing finds it. A replica is the
application of one machine, :func:`~protuning_mm.serving.app.build_app`.
"""

import logging
import re
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp, Message, Scope

from protuning_mm.serving.body_limits import BodyLimits
from protuning_mm.serving.capacity import Capacity
from protuning_mm.serving.entry import NAME
from protuning_mm.serving.error_answers import answer_errors
from protuning_mm.serving.errors import RequestError
from protuning_mm.serving.limits import Limits

logger = logging.getLogger(__name__)
_TASK = re.compile(rf'/v1/tasks/({NAME.pattern})(?:/predict)?', re.ASCII)
_METHODS = ['GET', 'POST', 'PUT', 'DELETE']
_SENT = ('type', 'http_version', 'method', 'scheme', 'path', 'raw_path', 'query_string', 'headers', 'root_path')
Answered = tuple[int, list[tuple[bytes, bytes]], bytes]  # status, headers, body


def make_replica(capacity: Capacity) -> type:
    """Make the class of the replicas.

    Args:
        capacity (Capacity): Tasks that a replica keeps in memory.
    """

    most = -1 if capacity.in_mib else int(capacity.amount)  # -1: Ray Serve sets no limit of its own

    class Replica:
        """A process with the base and the tasks that it was asked for.

        Args:
            prepare (Callable): Called before anything else.
            build (Callable): Builds the application.
        """

        def __init__(self, prepare: Callable[[], None], build: Callable[[], ASGIApp]) -> None:
            prepare()
            self._app = build()

        @serve.multiplexed(max_num_models_per_replica=most)
        async def hold(self, name: str) -> str:
            """Tell Ray Serve that this replica holds a task."""
            return name

        async def answer(self, scope: dict[str, Any], body: bytes) -> Answered:
            """Answer a request."""
            status, headers, content = await _call(self._app, dict(scope), body)
            name = serve.get_multiplexed_model_id()
            if name and status < 400:
                await self.hold(name)
            replica = serve.get_replica_context().replica_id.unique_id
            return status, [*headers, (b'x-replica', replica.encode())], content

        async def check_health(self) -> None:
            """Fail if the application does not answer; Ray Serve then replaces this replica."""
            status, _, _ = await _call(self._app, _scope('/healthz'), b'')
            if status != 200:
                raise RuntimeError(f'/healthz answers {status}')

    return Replica


def make_front(limits: Limits) -> type:
    """Make the class of the fronts.

    Args:
        limits (Limits): The limits of request bodies.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.add_middleware(BodyLimits, limits=limits)
    answer_errors(app)

    @serve.ingress(app)
    class Front:
        """Sends each request to a replica that holds its task.

        Args:
            prepare (Callable): Called before anything else.
            replicas (DeploymentHandle): The replicas.
        """

        def __init__(self, prepare: Callable[[], None], replicas: DeploymentHandle[Any]) -> None:
            prepare()
            self._replicas = replicas

        @app.api_route('/{path:path}', methods=_METHODS)
        async def forward(self, request: Request) -> Response:
            found = _TASK.fullmatch(request.url.path)
            replicas = self._replicas.options(multiplexed_model_id=found[1]) if found else self._replicas
            scope = {key: request.scope[key] for key in _SENT if key in request.scope}
            try:
                status, headers, body = await replicas.answer.remote(scope, await request.body())
            except BackPressureError:
                raise RequestError(429, 'too many requests wait already', {'Retry-After': '1'}) from None
            except (RayError, RayServeException) as error:
                text = f'the replica that had this request has ended ({type(error).__name__})'
                raise RequestError(503, text, {'Retry-After': '1'}) from error
            answer = Response(body, status)
            answer.raw_headers = headers
            return answer

    return Front


async def _call(app: ASGIApp, scope: Scope, body: bytes) -> Answered:
    """Call an ASGI application with a whole body."""
    parts = [dict(type='http.request', body=body, more_body=False)]
    sent: list[Message] = []

    async def receive() -> Message:
        return parts.pop() if parts else dict(type='http.disconnect')

    async def send(message: Message) -> None:
        sent.append(message)

    try:
        await app(scope, receive, send)
    except Exception:  # starlette answers an unexpected error, and raises it again
        if not sent:
            raise
        logger.exception('%s %s', scope['method'], scope['path'])
    return sent[0]['status'], list(sent[0]['headers']), b''.join(each.get('body', b'') for each in sent[1:])


def _scope(path: str) -> dict[str, Any]:
    return dict(
        type='http', http_version='1.1', method='GET', scheme='http', path=path, raw_path=path.encode(),
        query_string=b'', headers=[], root_path='',
    )  # fmt: skip
