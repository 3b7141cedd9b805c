"""What goes back to the client: granted and replayed grabs, and problems (RFC 9457)."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from flashgrab.clock import to_rfc3339
from flashgrab.ids import grab_id
from flashgrab.outcomes import Outcome
from gateway.campaigns import Campaign
from gateway.decisions import Decision, Grant

JSON = "application/json"
PROBLEM = "application/problem+json"
CLOSING = (408, 413, 414, 431)
"""The request itself is too large or too slow: what follows on the connection can't be trusted."""


def json_reply(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(orjson.dumps(body), status, headers, JSON)


def to_bytes(
    response: Response,
    headers: Sequence[tuple[bytes, bytes]],
    *,
    more: bytes = b"",
    close: bool = False,
) -> bytes:
    """An answer as uvicorn would send it: `headers` before its own, `more` (whole lines) after."""
    lines = [STATUS_LINE[response.status_code]]
    for name, value in (*headers, *response.raw_headers):
        if name == b"connection":
            close = False  # it says so itself
        lines += (name, b": ", value, b"\r\n")
    lines += (more, b"connection: close\r\n" if close else b"", b"\r\n", bytes(response.body))
    return b"".join(lines)


def problem(outcome: Outcome, **fields: Any) -> Response:
    """A refusal. `detail` replaces the outcome's own; a `retry_after_ms` is sent as it is,
    otherwise 429 and 503 get one with jitter, so that a crowd does not come back at once."""
    answer = outcome.value
    body: dict[str, Any] = {
        "type": f"/problems/{outcome.name.lower().replace('_', '-')}",
        "title": answer.title,
        "status": answer.status,
        "code": outcome.name,
        "detail": answer.detail,
    }
    if answer.retry_after_ms and "retry_after_ms" not in fields:
        base = answer.retry_after_ms
        fields["retry_after_ms"] = base + random.randrange(base)
    body.update(fields)
    headers = {"Cache-Control": "no-store"}
    if "retry_after_ms" in fields:
        headers["Retry-After"] = str(-(-fields["retry_after_ms"] // 1000))
    if answer.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if answer.status in CLOSING:
        headers["Connection"] = "close"
    return Response(orjson.dumps(body), answer.status, headers, PROBLEM)


def grab_reply(campaign: Campaign, decision: Decision, now_ms: int) -> Response:
    """The answer to one decided grab; `now_ms` is Redis' time."""
    outcome = decision.outcome
    if outcome is Outcome.GRANTED or outcome is Outcome.REPLAYED:
        return _Granted(campaign, decision.grants[0], outcome is Outcome.REPLAYED)
    if outcome is Outcome.USER_LIMIT:
        held = [grab_id(campaign.campaign_id, g.serial) for g in decision.grants if g.state == "g"]
        return problem(outcome, grab_ids=held)
    # By the script's time: the round that it found closed may have opened on the way back.
    if outcome is Outcome.NOT_STARTED:
        opens_at = campaign.next_opens_at(decision.at_ms) or decision.at_ms
        wait_ms = max(0, opens_at - now_ms)
        return problem(outcome, opens_at=to_rfc3339(opens_at), retry_after_ms=wait_ms)
    if outcome is Outcome.SOLD_OUT:
        following = campaign.next_opens_at(decision.at_ms)
        if following is not None:
            return problem(outcome, next_opens_at=to_rfc3339(following))
    return problem(outcome)


def grant_state(campaign: Campaign, grant: Grant) -> str:
    """GRANTED, PERSISTED (the watermark is past it) or RETURNED."""
    if grant.state == "r":
        return "RETURNED"
    return "PERSISTED" if 0 < grant.seq <= campaign.watermark else "GRANTED"


class _Granted(Response):
    """A granted or replayed grab, written by hand: nothing in it needs escaping.

    Every winner comes through here; orjson, a dictionary of headers and Starlette's encoding of it
    cost as much as the pass check.
    """

    def __init__(self, campaign: Campaign, grant: Grant, replayed: bool) -> None:
        name = grab_id(campaign.campaign_id, grant.serial)
        again = ',"replayed":true' if replayed else ""
        self.status_code = 200 if replayed else 201
        self.background = None
        self.body = (
            f'{{"grab_id":"{name}","campaign_id":"{campaign.campaign_id}","serial":{grant.serial},'
            f'"round":{grant.round},"state":"{grant_state(campaign, grant)}"{again}}}'
        ).encode()
        self.raw_headers = [
            (b"content-length", b"%d" % len(self.body)),
            (b"content-type", JSON.encode()),
        ]
        if not replayed:
            self.raw_headers.insert(0, (b"location", f"/v1/grabs/{name}".encode()))


def campaign_body(campaign: Campaign, now_ms: int) -> dict[str, Any]:
    """The public state of one campaign, without the server's time."""
    state = campaign.state
    assert state is not None
    return {
        "campaign_id": campaign.campaign_id,
        "name": state.definition["name"],
        "status": campaign.status(now_ms),
        "per_user": state.per_user,
        "per_device": state.per_device,
        "rule": state.definition["rule"],
        "rounds": [
            {
                "round": r.number,
                "opens_at": to_rfc3339(r.opens_at),
                "closes_at": to_rfc3339(r.closes_at),
                "quota": r.quota,
                "left": left,
                **_sold_out_at(campaign, r.number),
            }
            for r, left in zip(state.rounds, campaign.left, strict=True)
        ],
    }


def _sold_out_at(campaign: Campaign, number: int) -> dict[str, str]:
    at_ms = campaign.sold_out_at.get(number)
    return {} if at_ms is None else {"sold_out_at": to_rfc3339(at_ms)}
