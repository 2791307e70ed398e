"""The FastAPI application: routes and errors. It needs no server of its own, so any ASGI server can run it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse

from protuning_mm.serving.access import check_token
from protuning_mm.serving.answers import KINDS, Image, Results, describe_sample, draw
from protuning_mm.serving.bodies import read_prediction, receive_upload, split_names
from protuning_mm.serving.body_limits import BodyLimits
from protuning_mm.serving.error_answers import answer_errors
from protuning_mm.serving.errors import RequestError
from protuning_mm.serving.metrics import MeasuredRequests
from protuning_mm.serving.openapi import PREDICT, PREDICT_TASKS, UPLOAD
from protuning_mm.serving.service import Service
from protuning_mm.serving.store_changes import temporary_folder
from protuning_mm.version import __version__

PAGE = Path(__file__).with_name('page.html')
_PAGE_HEADERS = {
    'Content-Security-Policy': "default-src 'none'; connect-src 'self'; img-src blob: data:; "
    "script-src 'unsafe-inline'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    'X-Content-Type-Options': 'nosniff',
}
ScoreThr = Annotated[float, Query(ge=0, le=1, description='lowest score of a box')]
TopK = Annotated[int, Query(ge=1, description='number of classes of a classifier')]


def build_app(service: Service, token: str | None = None) -> FastAPI:
    """Build the application.

    Args:
        service (Service): Answers the requests. It is closed with the application.
        token (str, optional): Requests that change tasks must name it. Defaults to None: no request may.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    # the docs pages of FastAPI load scripts from another host
    app = FastAPI(title='protuning_mm', version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(BodyLimits, limits=service.limits)
    app.add_middleware(MeasuredRequests, metrics=service.metrics)
    answer_errors(app)

    @app.post('/v1/tasks/{name}/predict', openapi_extra=PREDICT)
    async def predict(name: str, request: Request, score_thr: ScoreThr = 0.3, top_k: TopK = 5) -> Response:
        """Predict with one task on one image or several. `Accept: image/png` returns a drawn picture of one image."""
        service.store.read(name)  # an unknown task is an error before the images have arrived
        body = await read_prediction(request)

        def answer(images: Sequence[Image], results: Results, seconds: float) -> Response:
            task, samples = results[name]
            if _wants_picture(request):
                return Response(draw(images, results, score_thr), media_type='image/png')
            found = [describe_sample(task, *each, score_thr, top_k) for each in zip(images, samples)]
            return JSONResponse(dict(task=name, kind=KINDS[task.kind], seconds=seconds, results=found))

        return await service.predict([name], body.images, answer)

    @app.post('/v1/predict', openapi_extra=PREDICT_TASKS)
    async def predict_tasks(
        request: Request,
        tasks: Annotated[list[str], Query(description='names of tasks')] = [],  # noqa: B006 – FastAPI copies it
        score_thr: ScoreThr = 0.3,
        top_k: TopK = 5,
    ) -> Response:
        """Predict with several tasks on one image; what they share is computed once."""
        body = await read_prediction(request)
        names = [*split_names(tasks), *body.tasks]
        if not names or len(body.images) > 1:
            raise RequestError(422, f'{len(body.images)} images and {len(names)} tasks; send one image and name tasks')

        def answer(images: Sequence[Image], results: Results, seconds: float) -> Response:
            if _wants_picture(request):
                return Response(draw(images, results, score_thr), media_type='image/png')
            found = {
                name: dict(kind=KINDS[task.kind], **describe_sample(task, images[0], samples[0], score_thr, top_k))
                for name, (task, samples) in results.items()
            }
            return JSONResponse(dict(seconds=seconds, results=found))

        return await service.predict(names, body.images, answer)

    @app.get('/v1/tasks')
    def tasks() -> dict[str, Any]:
        """List the tasks. Kind and classes of a task are known once it was in memory."""
        return dict(tasks=[service.describe(name) for name in service.store.names()])

    @app.put('/v1/tasks/{name}', openapi_extra=UPLOAD)
    async def put(name: str, request: Request) -> dict[str, Any]:
        """Add a task or replace it. It is used when the whole delta has arrived and was checked against the base."""
        check_token(token, request.headers.get('authorization'))
        service.check_changeable(name)
        with temporary_folder(service.store) as folder:
            upload = await receive_upload(request, folder)
            return await service.put(name, upload.config, upload.file, upload.signature)

    @app.delete('/v1/tasks/{name}')
    async def delete(name: str, request: Request) -> dict[str, Any]:
        """Remove a task. Requests that have begun are answered."""
        check_token(token, request.headers.get('authorization'))
        await service.delete(name)
        return dict(deleted=name)

    @app.get('/healthz')
    async def healthz() -> dict[str, str]:
        """Answer as long as the process lives."""
        return dict(status='ok')

    @app.get('/readyz')
    async def readyz() -> JSONResponse:
        """Answer 200 if another request would be admitted."""
        ready = not service.admission.is_full
        return JSONResponse(dict(status='ready' if ready else 'busy'), 200 if ready else 503)

    @app.get('/metrics')
    def metrics() -> Response:
        """Return the metrics in the format of Prometheus."""
        text, kind = service.metrics.text()
        return Response(text, media_type=kind)

    @app.get('/', include_in_schema=False)
    def page() -> Response:
        return Response(PAGE.read_bytes(), media_type='text/html', headers=_PAGE_HEADERS)

    return app


def _wants_picture(request: Request) -> bool:
    return 'image/png' in request.headers.get('accept', '')
