"""Negative controls: parts with exactly one protection switched off. Without it the same run must
fail, or it has shown nothing. The product has no switch for any of this.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import uvloop

from flashgrab import keys
from flashgrab.errors import StoreUnavailable
from flashgrab.ledger import facts
from flashgrab.scripts import Script
from flashgrab.settings import GatewaySettings, RelaySettings, WorkerSettings, load
from flashgrab.telemetry import Metrics, configure_logs
from flashgrab.wire import Wire
from gateway.app import make_app
from gateway.serve import listen, run_process
from worker import relay_main, worker_main
from worker.persist import Persist, Round
from worker.relay import Relay
from worker.steps import Hook

HEAD = 7
"""Arguments of grab.lua before the requests, three a request: user, device, request id."""
RETRIES = 10
"""As redis-py does by default."""


class FreshIds(Wire):
    """A batch that is sent once more carries other request ids than the first time."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._sent: set[tuple[bytes, ...]] = set()

    def call(
        self, script: Script, keys: list[str], args: list[Any], timeout_ms: int
    ) -> "asyncio.Future[Any]":
        self._sent.add(tuple(args[HEAD + 2 :: 3]))
        return super().call(script, keys, args, timeout_ms)

    async def run(self, script: Script, keys: list[str], args: list[Any], timeout_ms: int) -> Any:
        """How a batch is sent again (gateway/call.py)."""
        if tuple(args[HEAD + 2 :: 3]) in self._sent:
            for at in range(HEAD + 2, len(args), 3):
                args[at] += b"-again"
        return await super().run(script, keys, args, timeout_ms)


class Retrying(Wire):
    """Repeats a call that was lost by itself, whoever's deadline that breaks."""

    def call(
        self, script: Script, keys: list[str], args: list[Any], timeout_ms: int
    ) -> "asyncio.Future[Any]":
        return asyncio.ensure_future(self._insist(script, keys, args, timeout_ms))

    async def _insist(
        self, script: Script, keys: list[str], args: list[Any], timeout_ms: int
    ) -> Any:
        for _ in range(RETRIES):
            await self.connected.wait()
            with contextlib.suppress(StoreUnavailable):
                return await super().call(script, keys, args, timeout_ms)
        return await super().call(script, keys, args, timeout_ms)


class PublishedIsDone(Relay):
    """Trims the outbox as far as the broker has acknowledged: no watermark."""

    async def _land(self) -> None:
        await super()._land()
        for campaign_id, standing in (
            await self._store.standings(await self._store.registry())
        ).items():
            acked_seq = self._reader._cursors.acked_seq(campaign_id)
            if standing.watermark < acked_seq <= standing.seq:
                await self._store.settle(campaign_id, standing.epoch, acked_seq, "")


class MarkedFirst(Persist):
    """Moves the offsets, then writes the rows: two transactions."""

    async def _write(self, consumer: Any, round_: Round, on_sending: Callable[[], object]) -> None:
        async with self._pool.transaction() as connection:
            await facts._move(connection, keys.GRABS_TOPIC, round_.moves)
        await self._hook("written")
        await _write_rows(self, round_, on_sending)


class MarkedAfter(Persist):
    """Writes the rows, then moves the offsets: two transactions."""

    async def _write(self, consumer: Any, round_: Round, on_sending: Callable[[], object]) -> None:
        await _write_rows(self, round_, on_sending)
        await self._hook("written")
        async with self._pool.transaction() as connection:
            await facts._move(connection, keys.GRABS_TOPIC, round_.moves)


async def _write_rows(persist: Persist, round_: Round, on_sending: Callable[[], object]) -> None:
    async def go_on() -> None:
        """Nothing: the step is elsewhere here."""

    await facts.write(
        persist._pool,
        keys.GRABS_TOPIC,
        [],
        round_.grants,
        round_.letters,
        persist._clock.now_ms(),
        fresh=persist._fresh,
        on_sending=on_sending,
        before_commit=go_on,
    )


def gateway(wire: type[Wire]) -> Callable[[Hook], int]:
    """A gateway process with another wire."""

    def run(_hook: Hook) -> int:
        settings = load(GatewaySettings)
        configure_logs("gateway", settings.log_json)
        metrics = Metrics()
        app = make_app(settings, metrics, wire=wire)
        run_process(settings, listen(settings.host, settings.port), metrics, app)
        return 0

    return run


def relay(kind: type[Relay]) -> Callable[[Hook], int]:
    """A relay process of another kind."""
    return lambda hook: uvloop.run(relay_main.run(load(RelaySettings), hook, kind))


def worker(kind: type[Persist]) -> Callable[[Hook], int]:
    """A worker process of another kind."""
    return lambda hook: uvloop.run(worker_main.run(load(WorkerSettings), hook, kind))


PARTS: dict[str, Callable[[Hook], int]] = {
    "same-request-ids": gateway(FreshIds),
    "own-deadline": gateway(Retrying),
    "watermark": relay(PublishedIsDone),
    "write-before-mark": worker(MarkedFirst),
    "offsets-with-rows": worker(MarkedAfter),
}
"""By the protection that is off."""
