"""The textbook design, as short as it can honestly be: the reference that ours is held against.

A Starlette route on uvicorn (uvloop, httptools), redis-py's asyncio client, one EVALSHA a request:
pass check, limit of one a user, stock, and an entry in an outbox stream. It has no idempotency, no
rounds, no epochs, no bounds: each of those would only make it slower.

`python -m bench.textbook` serves. The environment says what and where: BENCH_REDIS_URL,
BENCH_PASS_KEY, BENCH_SCRIPT, BENCH_PORT.
"""

import hmac
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypedDict

import redis.asyncio as redis
import uvicorn
from redis.commands.core import AsyncScript
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from bench.books import HOLDERS, OUTBOX, STOCK

KEY = os.environ.get("BENCH_PASS_KEY", "").encode()
CONNECTIONS_MAX = 1024


class State(TypedDict):
    """Typed lifespan state."""

    grab: AsyncScript


def check(token: str) -> tuple[str, str] | None:
    """Campaign and user of a good pass, else None."""
    body, _, mac = token.rpartition(".")
    if not hmac.compare_digest(hmac.digest(KEY, body.encode(), "sha256").hex(), mac):
        return None
    campaign_id, user_id, expires_s = body.split(".")
    return (campaign_id, user_id) if int(expires_s) > time.time() else None


async def grab(request: Request[State]) -> JSONResponse:
    """POST /v1/campaigns/{campaign_id}/grabs."""
    campaign_id = request.path_params["campaign_id"]
    who = check(request.headers.get("authorization", "").removeprefix("Bearer "))
    if who is None:
        return JSONResponse({"code": "PASS_INVALID"}, 401)
    if who[0] != campaign_id:
        return JSONResponse({"code": "PASS_OTHER_CAMPAIGN"}, 403)
    request_id = request.headers.get("idempotency-key", "")
    serial = await request.state["grab"]([STOCK, HOLDERS, OUTBOX], [who[1], request_id])
    if serial < 0:
        return JSONResponse({"code": "USER_LIMIT" if serial == -1 else "SOLD_OUT"}, 409)
    grab_id = f"{campaign_id}-{serial}"
    body = {"grab_id": grab_id, "campaign_id": campaign_id, "serial": serial, "state": "GRANTED"}
    return JSONResponse(body, 201, {"Location": f"/v1/grabs/{grab_id}"})


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[State]:
    """One client, its pool as wide as the connections of the test."""
    url = os.environ["BENCH_REDIS_URL"]
    script = Path(os.environ["BENCH_SCRIPT"]).read_text()  # noqa: ASYNC240 - once, at start
    async with redis.Redis.from_url(url, max_connections=CONNECTIONS_MAX) as client:
        yield {"grab": client.register_script(script)}


app = Starlette(
    routes=[Route("/v1/campaigns/{campaign_id}/grabs", grab, methods=["POST"])], lifespan=lifespan
)

if __name__ == "__main__":
    uvicorn.run(
        app,
        port=int(os.environ["BENCH_PORT"]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )
