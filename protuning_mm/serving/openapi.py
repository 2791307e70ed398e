"""The request bodies in the OpenAPI description, which FastAPI cannot know: the routes read them themselves."""

from typing import Any

_FILES = dict(type='array', items=dict(type='string', format='binary'))
_BASE64 = dict(type='array', items=dict(type='string', format='byte'))
_TASKS = dict(type='array', items=dict(type='string'))
_IMAGE = {'schema': dict(type='string', format='binary')}


def _body(**content: Any) -> dict[str, Any]:
    return dict(requestBody=dict(required=True, content=content))


def _form(**properties: Any) -> dict[str, Any]:
    return dict(schema=dict(type='object', properties=properties))


PREDICT = _body(
    **{
        'multipart/form-data': _form(image=_FILES),
        'application/json': _form(images=_BASE64),
        'image/*': _IMAGE,
    }
)
PREDICT_TASKS = _body(
    **{
        'multipart/form-data': _form(image=_FILES, tasks=_TASKS),
        'application/json': _form(images=_BASE64, tasks=_TASKS),
        'image/*': _IMAGE,
    }
)
UPLOAD = _body(
    **{
        'multipart/form-data': _form(
            delta=dict(type='string', format='binary'),
            config=dict(type='string'),
            signature=dict(type='string', format='byte'),
        )
    }
)
