"""A live sale on a fault stack: its campaign, its buyers, the readings beside it, and its end."""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx2

from flashgrab.errors import FlashgrabError
from flashgrab.events import OutboxEntry
from flashgrab.ids import grab_id
from flashgrab.ledger.pool import Pool
from flashgrab.store import Store
from flashgrab.tasks import end
from tests.faults.crowd import Crowd, now_ms
from tests.faults.history import Count, Fact, Final, GiveBack, History, Redis, Sample, Window
from tests.faults.stack import ADMIN_TOKEN, FaultStack

SAMPLE_S = 1.0
DRAIN_S = 60.0
KNOWN_S = 30.0
MANAGE_S = 60.0
ENTRIES_MAX = 1_000_000


@dataclass
class Sale:
    """One campaign of a stack. Reads Redis and ledger beside every proxy."""

    stack: FaultStack
    crowd: Crowd
    store: Store
    pool: Pool

    @property
    def campaign_id(self) -> str:
        return self.crowd.campaign_id

    @property
    def history(self) -> History:
        return self.crowd.history

    async def restock(self, add: int) -> None:
        """More coupons for round 1, by the centre; repeated with its key until both sides agree."""
        body = {"round": 1, "add": add}
        await self._manage(f"/v1/campaigns/{self.campaign_id}/restock", body, secrets.token_hex(8))

    async def rebuild(self) -> dict[str, Any]:
        """A new epoch, by the centre; asked for with one key until it is over. Its report."""
        path = f"/v1/campaigns/{self.campaign_id}"
        await self._manage(f"{path}/rebuild", {}, secrets.token_hex(8))
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        async with httpx2.AsyncClient(verify=False, timeout=10, headers=headers) as http:
            shown = (await http.get(f"{self.stack.centre.url}{path}")).json()
        assert shown["rebuild"]["step"] == "DONE", shown
        report: dict[str, Any] = shown["rebuild"]
        return report

    async def give_back(self, serial: int) -> None:
        """One coupon back, by the centre; repeated with its key until both sides have it."""
        began_ms, done = now_ms(), False
        path = f"/v1/grabs/{grab_id(self.campaign_id, serial)}/return"
        try:
            await self._manage(path, {}, secrets.token_hex(8), wait_for=404)
            done = True
        finally:
            self.history.returns.append(GiveBack(serial, began_ms, now_ms(), done))

    async def all_back(self) -> None:
        """Until the ledger has the fact of every return that it ever committed."""

        async def done() -> bool:
            try:
                rows = await self._sql(
                    "SELECT count(*) AS n FROM coupons WHERE campaign_id = $1"
                    " AND state = 'RETURNED' AND returned_seq IS NULL"
                )
            except FlashgrabError:
                return False
            return not rows[0]["n"]

        await until("every return is in Redis and ledger", done, DRAIN_S)

    async def create(self, quota: int, fields: dict[str, Any] | None = None) -> None:
        """Publish the campaign by the centre, and wait until every gateway knows it."""
        definition = {
            "id": self.campaign_id,
            "name": "Under faults",
            "rule": {"kind": "amount_off", "amount": 3000, "threshold": 20000},
            "rounds": [{"opens_at": "now", "closes_at": "+2h", "quota": quota}],
            **(fields or {}),
        }
        await self._manage("/v1/campaigns", definition, secrets.token_hex(8))
        await self._manage(f"/v1/campaigns/{self.campaign_id}/publish", {}, secrets.token_hex(8))
        async with httpx2.AsyncClient(verify=False, timeout=2) as http:
            for gateway in self.stack.gateways:
                url = f"{gateway.url}/v1/campaigns/{self.campaign_id}"
                await until(f"{gateway.name} knows the campaign", partial(_is_there, http, url))

    async def _manage(
        self, path: str, body: dict[str, Any], operation: str, *, wait_for: int = 503
    ) -> None:
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}", "Idempotency-Key": operation}

        async def done() -> bool:
            try:
                answer = await http.post(f"{self.stack.centre.url}{path}", json=body)
            except httpx2.TransportError:
                return False
            assert answer.status_code in (200, 201, 503, wait_for), answer.text
            return answer.is_success and bool(answer.json().get("applied", True))

        async with httpx2.AsyncClient(verify=False, timeout=10, headers=headers) as http:
            await until(f"the centre did {path}", done, MANAGE_S)

    # -- beside the sale -------------------------------------------------------------------------

    async def sampling(self) -> None:
        """A reading of the counters once a second, as long as Redis answers; until cancelled."""
        while True:
            sample = await self._sample()
            if sample is not None:
                self.crowd.history.samples.append(sample)
            await asyncio.sleep(SAMPLE_S)

    async def _sample(self) -> Sample | None:
        try:
            books = await self.store.books(self.campaign_id, 1, ENTRIES_MAX, 1)
        except FlashgrabError:
            return None
        if books is None:
            return None
        rounds = tuple(Count(*row) for row in books.rounds)
        return Sample(now_ms(), books.seq, rounds, books.epoch)

    async def watermark(self) -> int:
        """How far the ledger has every fact; 0 where it does not answer."""
        try:
            rows = await self._sql("SELECT watermark AS n FROM watermarks WHERE campaign_id = $1")
        except FlashgrabError:
            return 0
        return int(rows[0]["n"]) if rows else 0

    async def seq(self) -> int:
        """The last fact that Redis gave; 0 where it does not answer."""
        sample = await self._sample()
        return sample.seq if sample else 0

    async def known_everywhere(self) -> None:
        """Until every gateway says what Redis does of the stock: no memory is old then."""
        async with httpx2.AsyncClient(verify=False, timeout=2) as http:
            for gateway in self.stack.gateways:
                url = f"{gateway.url}/v1/campaigns/{self.campaign_id}"

                async def knows(url: str = url) -> bool:
                    state = await self.store.read(self.campaign_id)
                    try:
                        shown = (await http.get(url)).json()
                    except httpx2.TransportError:
                        return False
                    lefts = [r["left"] for r in shown.get("rounds", ())]
                    return state is not None and lefts == [r.left for r in state.rounds]

                await until(f"{gateway.name} knows the stock", knows)

    # -- the end ---------------------------------------------------------------------------------

    async def drained(self, within_s: float = DRAIN_S) -> None:
        """Until the ledger has every fact that Redis gave, and Redis knows it."""

        async def done() -> bool:
            try:
                standing = (await self.store.standings([self.campaign_id])).get(self.campaign_id)
            except FlashgrabError:
                return False
            if standing is None:
                return False
            return standing.seq == standing.watermark == await self.watermark()

        await until("the ledger has every fact", done, within_s)

    async def final(self, *, with_redis: bool = True) -> Final:
        """Everything that is there now."""
        campaign = (
            await self._sql("SELECT per_user, per_device FROM campaigns WHERE campaign_id = $1")
        )[0]
        rounds = await self._sql("SELECT * FROM rounds WHERE campaign_id = $1")
        coupons = await self._sql(
            "SELECT seq, serial, round, user_id, request_id, device_id, granted_at,"
            " coalesce(returned_seq, 0) FROM coupons WHERE campaign_id = $1 ORDER BY serial"
        )
        dead = await self._sql(
            "SELECT seq FROM dead WHERE (campaign_id = $1 OR $1 <> '') AND reason <> 'CLOSED_EPOCH'"
        )
        voids = await self._sql("SELECT from_seq, to_seq, epoch FROM voids WHERE campaign_id = $1")
        lost = await self._sql(
            "SELECT coalesce(sum((report->>'lost_max')::bigint), 0)::bigint AS n FROM rebuilds"
            " WHERE campaign_id = $1"
        )
        return Final(
            per_user=campaign["per_user"],
            per_device=campaign["per_device"],
            rounds={r["number"]: Window(r["opens_at"], r["closes_at"], r["quota"]) for r in rounds},
            ledger=[Fact(*row) for row in coupons],
            redis=await self._redis() if with_redis else None,
            dead=[row["seq"] or 0 for row in dead],
            voids=[(row["from_seq"], row["to_seq"], row["epoch"]) for row in voids],
            lost_max=lost[0]["n"],
        )

    async def _redis(self) -> Redis:
        state = await self.store.read(self.campaign_id)
        assert state is not None, "the campaign is not in Redis"
        granted = []
        async for user, entry in self.store.holders(self.campaign_id):
            for part in entry.split(";")[:-1]:
                serial, seq, number, held, key = part.split(",")
                mark = {"g": 0, "r": -1}[held]
                fact = Fact(int(seq), int(serial), int(number), user, key, returned_seq=mark)
                granted.append(fact)
        outbox, returns = [], {}
        for waiting in await self.store.outbox(self.campaign_id, 0, entries_max=ENTRIES_MAX):
            assert isinstance(waiting, OutboxEntry), waiting
            for f in waiting.facts(self.campaign_id):
                if f.event == "grab.returned":
                    returns[f.serial] = f.seq
                    continue
                of = (f.round, f.user_id, f.request_id, f.device_id, f.at_ms)
                outbox.append(Fact(f.seq, f.serial, *of))
        counts = {r.number: Count(r.quota, r.left, r.granted, r.returned) for r in state.rounds}
        waits = (outbox, state.epoch, returns)
        return Redis(state.seq, state.serial, state.watermark, counts, granted, *waits)

    async def _sql(self, query: str) -> list[Any]:
        async with self.pool.connection() as connection:
            rows: list[Any] = await connection.fetch(query, self.campaign_id)
            return rows


@asynccontextmanager
async def sale(stack: FaultStack, seed: int, devices: int = 0) -> AsyncIterator[Sale]:
    """A sale without a campaign yet; sampled once a second until the block ends."""
    crowd = Crowd(stack, f"f{secrets.token_hex(6)}", random.Random(seed), devices=devices)
    pool = Pool(stack.postgres.url, 2)
    async with Store(stack.valkey.url) as store:
        made = Sale(stack, crowd, store, pool)
        sampling = asyncio.create_task(made.sampling(), name="samples")
        try:
            yield made
        finally:
            await end([sampling])
            await made.store.close()  # a failover has put another one here
            await pool.close()


async def until(what: str, met: Callable[[], Awaitable[Any]], within_s: float = KNOWN_S) -> Any:
    """Wait for a condition, and give its value; fails naming it."""
    end_ms = now_ms() + int(within_s * 1000)
    while not (value := await met()):
        if now_ms() > end_ms:
            raise AssertionError(f"not within {within_s} s: {what}")
        await asyncio.sleep(0.02)
    return value


async def _is_there(http: httpx2.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(url)).status_code == 200
    except httpx2.TransportError:
        return False
