"""Admission of requests: how many may wait, and when a refused one should try again."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

from protuning_mm.serving.errors import RequestError


class Admission:
    """Counts the requests that wait or run. Use it from one event loop.

    Args:
        max_queue (int): Requests that may wait while another one runs.
    """

    def __init__(self, max_queue: int) -> None:
        self.max_queue = max_queue
        self.admitted = 0
        self._seconds = 1.0  # how long a request has run lately

    @property
    def is_full(self) -> bool:
        """Whether the next request will be refused."""
        return self.admitted > self.max_queue

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Admit a request for as long as the context lasts.

        Raises:
            RequestError: too many requests wait (429).
        """
        if self.is_full:
            raise RequestError(429, f'{self.max_queue} requests wait already', self.retry_later())
        self.admitted += 1
        try:
            yield
        finally:
            self.admitted -= 1

    def record(self, seconds: float) -> None:
        """Record how long a request has run."""
        self._seconds = 0.8 * self._seconds + 0.2 * seconds

    def retry_later(self) -> dict[str, str]:
        """Return the header that tells when the requests of this moment will be answered."""
        return {'Retry-After': str(max(1, math.ceil(self._seconds * self.admitted)))}
