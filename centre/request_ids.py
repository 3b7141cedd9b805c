"""Every request of the centre has an id: the client's X-Request-Id where it has the form, else a
new one. It is in the answer's header, in the body of a problem, and in each line of the log."""

import orjson
import structlog
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flashgrab.failures import HEADER, request_id

REQUEST_ID = "flashgrab.request_id"
"""Where in the scope it is."""
_FIELD = HEADER.encode()


class RequestIds:
    """Pure ASGI."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = [value for name, value in scope["headers"] if name == _FIELD]
        name = scope[REQUEST_ID] = request_id(given[0].decode("latin-1") if given else "")
        header = (_FIELD, name.encode())

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start" and header not in message["headers"]:
                message["headers"] = [*message["headers"], header]
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=name):
            await self._app(scope, receive, sending)


def with_id(response: Response, name: str) -> Response:
    """A problem with the id of its request."""
    body = orjson.loads(response.body) | {"request_id": name}
    response.body = orjson.dumps(body)
    response.headers["content-length"] = str(len(response.body))
    response.headers[HEADER] = name
    return response
