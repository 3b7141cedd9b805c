"""Buyers over HTTP who repeat with their key until they are told, and note everything they saw."""

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from zlib import crc32

from flashgrab.cli.rehearsal import crowd
from flashgrab.cli.rehearsal.connection import Address, Connection, NoReply
from flashgrab.ids import split_grab_id
from flashgrab.outcomes import Outcome
from flashgrab.passes import PassKeys, issue
from tests.faults.history import Answer, Ask, History
from tests.faults.stack import PASS_KEYS, FaultStack

HOUR_MS = 3_600_000
REPLY_S = 4.0
"""Twice a gateway's own deadline; past it the answer counts as lost."""
REPEATS_MAX = 10
PAUSE_S = (0.02, 0.3)
"""Before a repeat, drawn: shorter than Retry-After asks, which buyers do not wait for either."""


@dataclass
class Crowd:
    """All buyers of one campaign. `history` is what they saw."""

    stack: FaultStack
    campaign_id: str
    chance: random.Random
    history: History = field(default_factory=History)
    devices: int = 0
    """How many devices the users share; 0: a pass names none."""

    def __post_init__(self) -> None:
        self.away: set[int] = set()
        self._keys = PassKeys.parse(PASS_KEYS)
        self._expires_ms = time.time_ns() // 1_000_000 + 3 * HOUR_MS
        self._addresses = [
            Address.of(self.stack.crowd_url(n)) for n in range(self.stack.shape.gateways)
        ]

    def pass_of(self, user: str) -> str:
        """A pass as the gateway would issue it."""
        device = f"d{hash_of(user) % self.devices}" if self.devices else ""
        return issue(self._keys, self.campaign_id, user, device, self._expires_ms)

    async def work_off(
        self, asks: Iterator[tuple[str, str]], connections: int, per_s: float = 0.0
    ) -> None:
        """Every (user, key), over so many connections, at most `per_s` first attempts a second;
        what nobody could send while all waited for answers is not made up for afterwards."""
        due_s = time.monotonic()

        async def buyers() -> None:
            nonlocal due_s
            lines = [Connection(address) for address in self._addresses]
            try:
                for user, key in asks:
                    if per_s:
                        due_s = max(due_s + 1 / per_s, time.monotonic())
                        await asyncio.sleep(due_s - time.monotonic())
                    await self._until_told(lines, user, key)
            finally:
                for line in lines:
                    line.close()

        await asyncio.gather(*(buyers() for _ in range(connections)))

    async def ask_everywhere(self, asks: list[tuple[str, str]], connections: int = 16) -> None:
        """After healing: each key at each gateway until it says something."""
        shared = iter(asks)

        async def buyers() -> None:
            lines = [Connection(address) for address in self._addresses]
            try:
                for user, key in shared:
                    for number in range(len(lines)):
                        await self._until_told(lines, user, key, at=number)
            finally:
                for line in lines:
                    line.close()

        await asyncio.gather(*(buyers() for _ in range(connections)))

    async def attempt_all(self, gateway: int, asks: list[tuple[str, str]]) -> None:
        """Each key once, one after the other, at one gateway."""
        line = Connection(self._addresses[gateway])
        try:
            for user, key in asks:
                await self.attempt(line, gateway, user, key)
        finally:
            line.close()

    async def _until_told(
        self, lines: list[Connection], user: str, key: str, at: int | None = None
    ) -> None:
        """One key, at any gateway (or at this one, after healing), until it is told yes or no."""
        for _ in range(1 + REPEATS_MAX):
            number = self.chance.choice(self._in_rotation()) if at is None else at
            ask = await self.attempt(lines[number], number, user, key, final=at is not None)
            if ask.answer is not Answer.UNKNOWN:
                return
            await asyncio.sleep(self.chance.uniform(*PAUSE_S))

    def _in_rotation(self) -> list[int]:
        """The gateways that a balancer would send to: those that nobody has taken out."""
        return [n for n in range(len(self._addresses)) if n not in self.away]

    async def attempt(
        self,
        line: Connection,
        gateway: int,
        user: str,
        key: str,
        *,
        final: bool = False,
        token: str = "",
    ) -> Ask:
        """One request, noted; with a pass of the user's own unless one is given."""
        wanted = crowd.Ask(self.campaign_id, user, key)
        request = crowd.grab_request(self._addresses[gateway], wanted, token or self.pass_of(user))
        began_ms = now_ms()
        answer, code, serial, state = Answer.UNKNOWN, "", 0, ""
        named: tuple[int, ...] = ()
        try:
            reply = await line.ask(request, REPLY_S)
        except NoReply:
            pass
        else:
            body = crowd.read_body(reply)
            answer, code, serial, named = _read(reply.status, body)
            state = str(body.get("state", ""))
        told = (answer, code, serial, state, named)
        ask = Ask(user, key, gateway, began_ms, now_ms(), *told, final=final)
        self.history.asks.append(ask)
        return ask


def now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def hash_of(user: str) -> int:
    """The same in every process."""
    return crc32(user.encode())


def _read(status: int, body: dict[str, object]) -> tuple[Answer, str, int, tuple[int, ...]]:
    """Answer, code, serial and serials named; what the contract has not is an error of ours."""
    outcome, grab_ids = crowd.read_outcome(status, body)
    serials = tuple(_serial(grab_id) for grab_id in grab_ids)
    if outcome in (Outcome.GRANTED, Outcome.REPLAYED):
        return Answer.OK, outcome.name, serials[0], ()
    if outcome is None:
        if status == 401:
            return Answer.REFUSED, "PASS_INVALID", 0, ()
        raise AssertionError(f"the contract has no such answer: {status} {body}")
    if status in (429, 503) and not isinstance(body.get("retry_after_ms"), int):
        raise AssertionError(f"no word of when to repeat: {status} {body}")
    if status in (408, 429, 503):
        return Answer.UNKNOWN, outcome.name, 0, ()
    return Answer.REFUSED, outcome.name, 0, serials


def _serial(grab_id: str) -> int:
    found = split_grab_id(grab_id)
    assert found is not None, grab_id
    return found[1]
