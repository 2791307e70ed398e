"""The metrics of a server, in the format of Prometheus."""

import time
from collections.abc import Callable
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_IMAGES = (1, 2, 4, 8, 16, 32)
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The metrics of one server."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter('protuning_requests', 'Requests', ['route', 'method', 'status'], registry=registry)
        self.seconds = Histogram(
            'protuning_request_seconds', 'Time of a request', ['route', 'method'], buckets=_SECONDS, registry=registry
        )
        self.images = Counter('protuning_images', 'Images for which a task has answered', ['task'], registry=registry)
        self.batch = Histogram(
            'protuning_batch_images', 'Images of a task in one computation', buckets=_IMAGES, registry=registry
        )
        self.loads = Histogram(
            'protuning_task_load_seconds', 'Time of reading a task into memory', buckets=_SECONDS, registry=registry
        )
        self.failed_loads = Counter('protuning_task_load_failures', 'Tasks that could not be read', registry=registry)
        self.evictions = Counter('protuning_task_evictions', 'Tasks put away for others', registry=registry)
        self.resident = Gauge('protuning_resident_tasks', 'Tasks in memory', registry=registry)
        self.queue = Gauge('protuning_queue', 'Requests that wait or run', registry=registry)

    def watch(self, resident: Callable[[], float], queue: Callable[[], float]) -> None:
        """Set the functions that return how many tasks are in memory, and how many requests wait or run."""
        self.resident.set_function(resident)
        self.queue.set_function(queue)

    def text(self) -> tuple[bytes, str]:
        """Return all metrics and their content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST


class MeasuredRequests:
    """Middleware that counts and times requests by route.

    Args:
        app (ASGIApp): The application.
        metrics (Metrics): The metrics.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope['type'] != 'http':
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            status = message.get('status', status)
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            route: Any = scope.get('route')  # set by the router; paths of wrong requests must not become labels
            labels = (getattr(route, 'path', 'other'), scope['method'] if route else 'other')
            self.metrics.requests.labels(*labels, status).inc()
            self.metrics.seconds.labels(*labels).observe(time.perf_counter() - start)
