"""Who may change tasks: whoever knows the token."""

import secrets

from protuning_mm.serving.errors import RequestError


def check_token(token: str | None, authorization: str | None) -> None:
    """Check the header ``Authorization: Bearer …`` of a request that changes tasks.

    Args:
        token (str, optional): The server's token; None if no request may change tasks.
        authorization (str, optional): The header.

    Raises:
        RequestError: there is no token in the request (401), or a wrong one, or the server has none (403).
    """
    if token is None:
        raise RequestError(403, 'tasks cannot be changed: the server was started without --token-file')
    scheme, _, sent = (authorization or '').partition(' ')
    if scheme.lower() != 'bearer' or not sent:
        raise RequestError(401, 'send the token: Authorization: Bearer …', {'WWW-Authenticate': 'Bearer'})
    if not secrets.compare_digest(sent.strip().encode(), token.encode()):
        raise RequestError(403, 'the token is wrong')
