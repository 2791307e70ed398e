"""Bodies of requests: images and names of tasks as a form, as JSON or as one plain image; deltas as a form."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, create_form_parser
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request

from protuning_mm.serving.errors import RequestError

_JSON = 'the body must be {"images": ["<base64>", …]}'
_FORM = 'the form is damaged'


@dataclass
class Prediction:
    """What a request to predict names.

    Args:
        images (list[bytes]): Image files.
        tasks (list[str]): Names of tasks. Defaults to none.
    """

    images: list[bytes]
    tasks: list[str] = field(default_factory=list)


async def read_prediction(request: Request) -> Prediction:
    """Read the body of a request to predict.

    Raises:
        RequestError: the body has another type (415) or form (400, 422).
    """
    kind = _media_type(request)
    if kind == 'multipart/form-data':
        async with request.form() as form:
            items = form.multi_items()
            images = [await value.read() for _, value in items if isinstance(value, UploadFile)]
            written = [value for key, value in items if key == 'tasks' and isinstance(value, str)]
        return Prediction(images, split_names(written))
    if kind == 'application/json':
        return await run_in_threadpool(_parse_json, await request.body())
    if kind.startswith('image/') or kind == 'application/octet-stream':
        return Prediction([await request.body()])
    raise RequestError(415, f'Content-Type: {kind or "none"}; send multipart/form-data, application/json or an image')


def split_names(written: Sequence[str]) -> list[str]:
    """Split names that stand in one text, separated by commas."""
    return [name.strip() for text in written for name in text.split(',') if name.strip()]


@dataclass
class Upload:
    """What a request to change a task sends.

    Args:
        file (Path): The uploaded delta.
        config (str): The field ``config``; empty if there is none.
        signature (bytes): The field ``signature``; empty if there is none.
    """

    file: Path
    config: str
    signature: bytes


async def receive_upload(request: Request, folder: Path) -> Upload:
    """Write an uploaded file into a folder while it arrives.

    Args:
        request (Request): A form with a file and the fields ``config`` and ``signature``.
        folder (Path): A folder for this upload alone.

    Raises:
        RequestError: the body has another type (415) or form (400, 422).
    """
    if _media_type(request) != 'multipart/form-data':
        raise RequestError(415, 'send multipart/form-data with the file `delta` and the field `config`')
    fields: list[Field] = []
    files: list[File] = []
    settings = dict(UPLOAD_DIR=str(folder), UPLOAD_DELETE_TMP=False, MAX_MEMORY_FILE_SIZE=0)
    headers = {'Content-Type': request.headers['content-type'].encode('latin-1')}
    try:
        parser = create_form_parser(headers, fields.append, files.append, settings)
        async for chunk in request.stream():
            await run_in_threadpool(parser.write, chunk)
            if len(files) > 1:
                break
        if len(files) < 2:
            await run_in_threadpool(parser.finalize)
    except (FormParserError, ValueError, KeyError, AttributeError) as error:
        raise RequestError(400, f'{_FORM}: {error}') from None
    finally:
        for file in files:
            file.close()
    if len(files) != 1:
        raise RequestError(400, f'the form has {len(files)} complete files; it must have one, `delta`')
    paths = list(folder.iterdir())
    if not paths:
        raise RequestError(422, 'the uploaded file is empty')
    written = {each.field_name: (each.value or b'').strip() for each in fields}
    try:
        signature = base64.b64decode(written.get(b'signature', b''), validate=True)
    except ValueError:
        raise RequestError(422, 'signature: must be base64') from None
    return Upload(paths[0], written.get(b'config', b'').decode(errors='replace'), signature)


def _media_type(request: Request) -> str:
    return request.headers.get('content-type', '').partition(';')[0].strip().lower()


def _parse_json(body: bytes) -> Prediction:
    try:
        written: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise RequestError(400, f'the body is not JSON; {_JSON}') from None
    images = written.get('images') if isinstance(written, dict) else None
    tasks = written.get('tasks', []) if isinstance(written, dict) else None
    if not _are_texts(images) or not _are_texts(tasks):
        raise RequestError(422, f'{_JSON}, and may name "tasks": ["…"]')
    try:
        return Prediction([base64.b64decode(each, validate=True) for each in images or ()], list(tasks or ()))
    except ValueError:
        raise RequestError(422, 'an image is not valid base64') from None


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
