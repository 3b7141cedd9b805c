"""Who may manage: the holder of ADMIN_TOKEN, compared in constant time."""

import hmac

from starlette.types import ASGIApp, Receive, Scope, Send

from centre.problems import Code, problem


class AdminOnly:
    """Pure ASGI: lets a request through with `Authorization: Bearer ADMIN_TOKEN`, else 401."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._is_admin(scope):
            refusal = problem(Code.TOKEN_INVALID, "expected Authorization: Bearer ADMIN_TOKEN")
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_admin(self, scope: Scope) -> bool:
        values = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(values) != 1:
            return False
        scheme, _, token = values[0].partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), self._token)
