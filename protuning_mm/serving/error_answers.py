"""Answers to requests that fail: a status and ``{"error": "…"}``."""

import logging

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from protuning_mm.serving.errors import RequestError

logger = logging.getLogger(__name__)


def answer_errors(app: FastAPI) -> None:
    """Let an application answer every error as JSON, without a traceback."""

    @app.exception_handler(RequestError)
    async def known(request: Request, error: RequestError) -> Response:
        return JSONResponse(dict(error=str(error)), error.status, error.headers)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        return JSONResponse(dict(error=str(error.detail)), error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return JSONResponse(dict(error=f'{first["loc"][-1]}: {first["msg"]}'), 422)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return JSONResponse(dict(error='the client has closed the connection'), 400)

    @app.exception_handler(OSError)
    async def disk(request: Request, error: OSError) -> Response:
        logger.error('%s %s', request.method, request.url.path, exc_info=error)
        return JSONResponse(dict(error='the server cannot read or write its files'), 507)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        # the server logs the traceback
        return JSONResponse(dict(error="an unexpected error; the server's log has the traceback"), 500)
