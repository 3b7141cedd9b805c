"""What the centre tells /docs and /problems of itself. Anybody may read it, so it names no campaign
that there is: the programs make one of their own.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.requests import Request

from centre.problems import Code, problem
from flashgrab.docs.routes import Documented, routes
from flashgrab.ids import is_campaign_id

EXAMPLE = "my-first-sale"
WORDS = (
    (
        "Management is for staff: a token of `flashgrab token create`, or the ADMIN_TOKEN, in"
        " `Authorization: Bearer …`. The roles are in docs/security.md. The programs below make the"
        " campaign `{campaign}`; another id comes by `?campaign=`."
    ),
    (
        "Every write needs an `Idempotency-Key`, which names the operation: repeated, it is applied"
        " once and answered the same. `applied` says whether Redis has it, too."
    ),
)


def _codes() -> frozenset[str]:
    return frozenset(code.name for code in Code)


def _example(code: str, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    answer = problem(Code[code], "what was wrong, in a sentence", **fields)
    body: dict[str, Any] = orjson.loads(bytes(answer.body))
    return body


async def _integrate(request: Request[Any]) -> str:
    asked = request.query_params.get("campaign", "")
    host, scheme = request.headers.get("host", ""), request.url.scheme
    chosen = asked if is_campaign_id(asked) else EXAMPLE
    return await asyncio.to_thread(_rendered, scheme, host, chosen)


def _rendered(scheme: str, host: str, chosen: str) -> str:
    from flashgrab.docs import snippets

    base = snippets.base_of(scheme, host, "http://127.0.0.1:8001")
    programs = snippets.filled(snippets.CENTRE, base, chosen)
    return snippets.integrate(programs, base, [w.format(campaign=chosen) for w in WORDS])


ROUTES = routes(Documented("centre", _codes, _example, _integrate))
