"""Concurrent buyers: a bounded number of connections that work off what buyers ask."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from flashgrab.cli.rehearsal.connection import Address, Connection, NoReply, Reply
from flashgrab.cli.rehearsal.rules import backoff_ms, pause_ms
from flashgrab.outcomes import Outcome

REPLY_TIMEOUT_S = 10.0
"""Longer than a gateway's own deadline; past it the connection counts as lost."""
PATIENCE_S = 60.0
"""From the first sending of a request: past it no more repeats."""


class Ask(NamedTuple):
    """One request that a buyer wants answered; `key` is its Idempotency-Key."""

    campaign_id: str
    user_id: str
    key: str


class Answered(NamedTuple):
    """What became of an ask. `outcome` is None where nothing known came within the patience;
    `said` is then the last that did. Times are seconds of the loop's clock."""

    ask: Ask
    outcome: Outcome | None
    said: str
    grab_ids: tuple[str, ...]
    repeats: int
    began_s: float
    ended_s: float


@dataclass
class Pace:
    """At most `per_second` first sendings, evenly; what was missed is not caught up."""

    per_second: float
    _next_s: float = 0.0

    def due(self, now_s: float) -> float:
        """When the next one may go."""
        at_s = max(now_s, self._next_s)
        self._next_s = at_s + 1 / self.per_second
        return at_s


class Crowd:
    """Sends asks over `connections` connections; repeats by the rules until PATIENCE_S."""

    def __init__(
        self,
        address: Address,
        pass_of: Callable[[str, str], str],
        *,
        connections: int,
        pace: float | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._address = address
        self._pass_of = pass_of
        self._connections = connections
        self._pace = Pace(pace) if pace else None
        self._patience_s = patience_s

    async def send(self, asks: Iterable[Ask], take: Callable[[Answered], None]) -> None:
        """Until every ask is answered or given up; `take` gets each in the order of its end."""
        shared = iter(asks)
        await together(self._work(shared, take) for _ in range(self._connections))

    async def _work(self, asks: Iterator[Ask], take: Callable[[Answered], None]) -> None:
        loop = asyncio.get_running_loop()
        connection = Connection(self._address)
        try:
            for ask in asks:
                if self._pace is not None:
                    now_s = loop.time()
                    if (at_s := self._pace.due(now_s)) > now_s:
                        await asyncio.sleep(at_s - now_s)
                take(await self._settle(connection, ask))
        finally:
            connection.close()

    async def _settle(self, connection: Connection, ask: Ask) -> Answered:
        """Send, and send again by the rules, until the answer is final or patience ends."""
        loop = asyncio.get_running_loop()
        request = grab_request(self._address, ask, self._pass_of(ask.campaign_id, ask.user_id))
        began_s = loop.time()
        tries = 0
        while True:
            tries += 1
            status, body = 0, {}
            try:
                reply = await connection.ask(request, REPLY_TIMEOUT_S)
            except NoReply as lost:
                said = f"no answer ({lost})"
                wait_ms: int | None = backoff_ms(tries)
            else:
                status, body = reply.status, read_body(reply)
                said = str(body.get("code", status))
                wait_ms = pause_ms(status, body, tries)
            now_s = loop.time()
            if wait_ms is None or now_s + wait_ms / 1000 > began_s + self._patience_s:
                outcome, grab_ids = read_outcome(status, body)
                return Answered(ask, outcome, said, grab_ids, tries - 1, began_s, now_s)
            await asyncio.sleep(wait_ms / 1000)


async def together(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all to the end; the first error as it is (no group), the others stopped."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def grab_request(address: Address, ask: Ask, token: str) -> bytes:
    """The bytes of one grab (contract §2)."""
    return (
        f"POST /v1/campaigns/{ask.campaign_id}/grabs HTTP/1.1\r\n"
        f"Host: {address.authority}\r\n"
        f"Authorization: Bearer {token}\r\n"
        f"Idempotency-Key: {ask.key}\r\n"
        "Content-Length: 0\r\n\r\n"
    ).encode()


def read_body(reply: Reply) -> dict[str, Any]:
    """The JSON object of an answer; empty where it is none (a proxy's page)."""
    try:
        body = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def read_outcome(status: int, body: dict[str, Any]) -> tuple[Outcome | None, tuple[str, ...]]:
    """The outcome, and the coupons that the answer names; None for what the contract has not."""
    if status == 201 and "grab_id" in body:
        return Outcome.GRANTED, (str(body["grab_id"]),)
    if status == 200 and "grab_id" in body and body.get("replayed") is True:
        return Outcome.REPLAYED, (str(body["grab_id"]),)
    outcome = Outcome.__members__.get(str(body.get("code")))
    if outcome is None or outcome.value.status != status or status < 400:
        return None, ()
    held = body.get("grab_ids")
    return outcome, tuple(map(str, held)) if isinstance(held, list) else ()
