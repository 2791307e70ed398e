"""What configs in malicious checkpoints name: it writes down that it was imported by them, or called."""

from typing import Any

calls: list[tuple[Any, ...]] = []


def sing(*args: Any, **kwargs: Any) -> None:
    calls.append((args, kwargs))
