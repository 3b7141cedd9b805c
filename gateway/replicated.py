"""The script calls of a campaign with `durability = "replica"`: answered when a replica has them.

The batcher gets this in place of the wire; for all other campaigns nothing is different.
"""

import asyncio
from functools import partial
from typing import Any

from flashgrab.errors import StoreUnavailable
from flashgrab.outcomes import Verdict
from flashgrab.replica import AWAY, Replica
from flashgrab.scripts import Script
from flashgrab.wire import Calls, Wire
from gateway.campaigns import Campaign


class Replicated(Calls):
    """A wire whose replies have reached a replica, whatever they say: new grants, replays, the
    grab_ids of a limit. What has not is as a lost reply: the batch is sent again, and replays."""

    def __init__(self, campaign: Campaign, wire: Wire, replica: Replica) -> None:
        self._campaign = campaign
        self._wire = wire
        self._replica = replica

    @property
    def connected(self) -> asyncio.Event:
        return self._wire.connected

    @property
    def run_id(self) -> str:
        return self._wire.run_id

    def call(
        self, script: Script, keys: list[str], args: list[Any], timeout_ms: int
    ) -> "asyncio.Future[Any]":
        """As Wire.call. Raises StoreUnavailable at once, and asks nothing, where no replica is
        there: what is granted then could be told to nobody."""
        if self._replica.is_away or not self._replica.judged.is_set():
            raise StoreUnavailable(AWAY)
        loop = asyncio.get_running_loop()
        late_at, run_id = loop.time() + timeout_ms / 1000, self._wire.run_id
        said = self._wire.call(script, keys, args, timeout_ms)
        answer: asyncio.Future[Any] = loop.create_future()
        said.add_done_callback(partial(self._heard, answer, run_id, late_at))
        return answer

    async def run(self, script: Script, keys: list[str], args: list[Any], timeout_ms: int) -> Any:
        """As Wire.run, and as call()."""
        loop = asyncio.get_running_loop()
        late_at = loop.time() + timeout_ms / 1000
        try:
            async with asyncio.timeout_at(late_at):
                await self._replica.judged.wait()
        except TimeoutError:
            raise StoreUnavailable(AWAY) from None
        if self._replica.is_away:
            raise StoreUnavailable(AWAY)
        run_id = self._wire.run_id
        said = await self._wire.run(script, keys, args, _left_ms(late_at))
        if self._is_decided(said):
            await self._replica.has_all(run_id, _left_ms(late_at))
        return said

    def _heard(
        self,
        answer: "asyncio.Future[Any]",
        run_id: str,
        late_at: float,
        call: "asyncio.Future[Any]",
    ) -> None:
        error = call.exception()
        if error is not None:
            _end(answer, error, None)
        elif self._is_decided(said := call.result()):
            told = self._replica.has_all(run_id, _left_ms(late_at))
            told.add_done_callback(lambda told: _end(answer, told.exception(), said))
        else:
            _end(answer, None, said)

    def _is_decided(self, said: list[Any]) -> bool:
        """Whether anything was decided. The floor counts it now, confirmed or not: a server that
        does not know it must not take its seq for another fact, which may be in Kafka by then."""
        verdict, epoch, seq = said[0], said[1], said[3]
        state = self._campaign.state
        if verdict == Verdict.DECIDED.value and state is not None and epoch == state.epoch:
            self._campaign.saw(seq)
        return bool(verdict == Verdict.DECIDED.value)


def _end(answer: "asyncio.Future[Any]", error: BaseException | None, said: Any) -> None:
    if answer.done():
        return
    if error is None:
        answer.set_result(said)
    else:
        answer.set_exception(error)


def _left_ms(late_at: float) -> int:
    return max(0, int((late_at - asyncio.get_running_loop().time()) * 1000))
