"""Limits of request bodies, kept while a body arrives."""

import asyncio
import time

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from protuning_mm.serving.errors import RequestError
from protuning_mm.serving.limits import Limits


class BodyLimits:
    """Middleware that ends requests whose body is too large (413) or too slow (408).

    The body of an upload (``PUT``) may take any time, but each part of it must arrive within the timeout.

    Args:
        app (ASGIApp): The application.
        limits (Limits): The limits.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app = app
        self.limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope['type'] != 'http':
            await self.app(scope, receive, send)
            return
        uploads = scope['method'] == 'PUT'
        limit = self.limits.max_upload_bytes if uploads else self.limits.max_bytes
        too_large = f'the body of this request may have {limit:,} bytes'
        declared = Headers(scope=scope).get('content-length', '')
        if declared.isdecimal() and int(declared) > limit:
            answer = JSONResponse(dict(error=f'{too_large}, not {int(declared):,}'), 413, {'Connection': 'close'})
            await answer(scope, receive, send)
            return
        size, whole, deadline = 0, False, time.monotonic() + self.limits.timeout

        async def limited() -> Message:
            nonlocal size, whole
            if whole:
                return await receive()
            left = self.limits.timeout if uploads else deadline - time.monotonic()
            try:
                message = await asyncio.wait_for(receive(), max(left, 0.001))
            except asyncio.TimeoutError:
                raise RequestError(
                    408, f'the body of this request did not arrive within {self.limits.timeout:g} s', _CLOSE
                ) from None
            size += len(message.get('body', b''))
            whole = not message.get('more_body', False)
            if size > limit:
                raise RequestError(413, too_large, _CLOSE)
            return message

        await self.app(scope, limited, send)


_CLOSE = {'Connection': 'close'}  # the rest of the body is not read
