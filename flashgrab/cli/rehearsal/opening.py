"""The campaigns as the gateway shows them, and the wait for their opening by its clock."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import httpx2

from flashgrab.cli.failure import fail
from flashgrab.cli.target import has_tls, unreachable
from flashgrab.clock import from_rfc3339

TIMEOUT_S = 5.0
POLL_S = 0.1
KNOWN_WITHIN_S = 10.0
"""From publish until the gateway must show a campaign; the contract says 1 s."""
_CAN_GRAB = ("NOT_STARTED", "CLAIMABLE", "SOLD_OUT")


@dataclass(frozen=True, slots=True)
class Opening:
    """The round that is open or comes next. `opens_in_s` is 0 or less where it is open."""

    name: str
    round: int
    left: int
    opens_in_s: float
    closes_in_s: float


class Gateway:
    """The public reading side of a gateway. Every call exits 2 where it does not answer."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._http = httpx2.AsyncClient(
            base_url=url, timeout=TIMEOUT_S, trust_env=False, verify=has_tls(url)
        )

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()

    async def opening(self, campaign_id: str) -> Opening:
        """When one can grab in a campaign; exit 2 where one cannot any more."""
        body = await self._get(f"/v1/campaigns/{campaign_id}")
        if body is None:
            fail(f"no campaign {campaign_id} at {self._url}; `flashgrab campaign list` shows all")
        return read_opening(campaign_id, body)

    async def left(self, campaign_id: str, number: int) -> int | None:
        """What a round still has; None where the gateway does not show it any more."""
        body = await self._get(f"/v1/campaigns/{campaign_id}") or {"rounds": []}
        return next((r["left"] for r in body["rounds"] if r["round"] == number), None)

    async def offset_ms(self) -> int:
        """What to add to this machine's clock for the server's, to some milliseconds."""
        before_ms = time.time_ns() // 1_000_000
        body = await self._get("/v1/campaigns")
        if body is None:
            fail(f"{self._url} is no gateway: /v1/campaigns is not there")
        middle_ms = (before_ms + time.time_ns() // 1_000_000) // 2
        return from_rfc3339(body["server_time"]) - middle_ms

    async def shows(self, campaign_ids: Iterable[str]) -> None:
        """Wait until the gateway knows these campaigns; exit 2 after KNOWN_WITHIN_S."""
        missing = set(campaign_ids)
        deadline = time.monotonic() + KNOWN_WITHIN_S
        while missing:
            body = await self._get("/v1/campaigns") or {"campaigns": []}
            missing -= {campaign["campaign_id"] for campaign in body["campaigns"]}
            if missing and time.monotonic() > deadline:
                fail(f"{self._url} does not show {min(missing)}, {KNOWN_WITHIN_S:.0f} s after it")
            if missing:
                await asyncio.sleep(POLL_S)

    async def _get(self, path: str) -> dict[str, Any] | None:
        try:
            reply = await self._http.get(path)
            if reply.status_code == 404:
                return None
            body: dict[str, Any] = reply.raise_for_status().json()
        except (httpx2.HTTPError, ValueError) as error:
            unreachable("the gateway", self._url, error)
        return body


def read_opening(campaign_id: str, body: dict[str, Any]) -> Opening:
    """The current or next round of a campaign's public state."""
    if body["status"] not in _CAN_GRAB:
        fail(f"campaign {campaign_id} is {body['status']}: nobody can grab there")
    now_ms = from_rfc3339(body["server_time"])
    ahead = [r for r in body["rounds"] if now_ms < from_rfc3339(r["closes_at"])]
    if not ahead:
        fail(f"campaign {campaign_id} has no round left")
    return Opening(
        body["name"],
        ahead[0]["round"],
        ahead[0]["left"],
        (from_rfc3339(ahead[0]["opens_at"]) - now_ms) / 1000,
        (from_rfc3339(ahead[0]["closes_at"]) - now_ms) / 1000,
    )
