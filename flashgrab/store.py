"""The adapter to Redis for everything but the grab path: campaigns, outbox, books, management.

The client's own retries are off: a command whose reply is lost may have run, and only the caller
knows whether to repeat it. Everything written here is idempotent by the scripts' own checks.
"""

import json
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from flashgrab import keys, scripts
from flashgrab.errors import StoreRefused, StoreUnavailable
from flashgrab.events import Entry, read_entry
from flashgrab.list_commands import ListCommands
from flashgrab.model import Round
from flashgrab.state import (
    STANDING,
    Books,
    CampaignState,
    GatewayReport,
    LeaseReply,
    OutboxStanding,
    Returning,
    read_campaign,
    read_standing,
)

TIMEOUT_MS = 5000
OUTBOX_MAX = 5_000_000
"""Facts that may wait for the ledger before grabs are answered BUSY."""


RETURN_CODES_OF_ONE = (0, 6, 7)
"""Codes of lua/return.lua that say nothing of the other grants: RETURNED, UNKNOWN, ALREADY."""


Took = Callable[[str, float], None]
"""Told a script's name, and how many seconds a call of it took."""


class Store(ListCommands):
    """One pool of connections. Raises StoreUnavailable (ambiguous) or StoreRefused."""

    def __init__(self, url: str, timeout_ms: int = TIMEOUT_MS, took: Took | None = None) -> None:
        self._took = took
        self._redis = redis.Redis.from_url(
            url,
            decode_responses=True,
            encoding_errors="replace",  # one bad byte somewhere must not hide what is around it
            retry=Retry(NoBackoff(), 0),
            retry_on_error=[],
            socket_timeout=timeout_ms / 1000,
            socket_connect_timeout=timeout_ms / 1000,
            protocol=2,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._redis.aclose()

    # -- the server ------------------------------------------------------------------------------

    async def run_id(self) -> str:
        """The run_id of the server: a new one after every restart and at another server."""
        info = await self._do(self._redis.info("server"))
        return str(info["run_id"])

    async def now_ms(self) -> int:
        """Redis' own clock."""
        seconds, micros = await self._do(self._redis.time())
        return int(seconds) * 1000 + int(micros) // 1000

    async def server_info(self) -> Mapping[str, Any]:
        """What INFO says."""
        said: Mapping[str, Any] = await self._do(self._redis.info())
        return said

    async def server_settings(self, *names: str) -> Mapping[str, str]:
        """What CONFIG GET says of each. StoreRefused where the server keeps it to itself."""
        said: Mapping[str, str] = await self._do(self._redis.config_get(*names))
        return said

    async def known_scripts(self) -> list[scripts.Script]:
        """Those that the server has under their hashes."""
        said = await self._do(self._redis.script_exists(*(script.sha for script in scripts.ALL)))
        return [script for script, known in zip(scripts.ALL, said, strict=True) if known]

    # -- campaigns -------------------------------------------------------------------------------

    async def registry(self) -> set[str]:
        """The ids of all campaigns that were published."""
        return set(await self._do(self._redis.smembers(keys.REGISTRY)))

    async def register(self, campaign_id: str) -> None:
        """Put a campaign into the registry, and tell every gateway and relay."""
        await self._do(self._redis.sadd(keys.REGISTRY, campaign_id))
        await self.announce(campaign_id)

    async def epoch(self, campaign_id: str) -> int:
        """The epoch that Redis has, 0 where the campaign's key is missing or no number."""
        said = await self._do(self._redis.hget(keys.campaign(campaign_id), "epoch"))
        return int(said) if said and said.isdecimal() else 0

    async def forget(self, campaign_id: str) -> None:
        """Everything of a campaign that the ledger does not have any more (after a restore)."""
        await self.forget_segment(campaign_id)
        rounds = await self._do(self._redis.hget(keys.campaign(campaign_id), "rounds"))
        count = int(rounds) if rounds and rounds.isdecimal() else 0
        await self._do(self._redis.srem(keys.REGISTRY, campaign_id))
        await self._do(
            self._redis.unlink(
                *_all_keys(campaign_id, count),
                keys.holders(campaign_id),
                keys.devices(campaign_id),
                keys.outbox(campaign_id),
            )
        )
        await self.announce(campaign_id)

    async def announce(self, campaign_id: str) -> None:
        """Tell gateways and relay that a campaign changed; a lost push costs them a second."""
        await self._do(self._redis.publish(keys.CHANGES, campaign_id))

    async def changes(self) -> AsyncIterator[str]:
        """Ids of campaigns as they change. Ends by StoreUnavailable; the caller subscribes anew."""
        async with self._redis.pubsub() as pubsub:
            await self._do(pubsub.subscribe(keys.CHANGES))
            while True:
                message = await self._do(pubsub.get_message(timeout=1.0))
                if message and message["type"] == "message":
                    yield str(message["data"])

    async def read(self, campaign_id: str) -> CampaignState | None:
        """A campaign with its rounds; None where its key is missing."""
        campaign = await self._do(self._redis.hgetall(keys.campaign(campaign_id)))
        if not campaign:
            return None
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hgetall(keys.campaign(campaign_id))
            for number in range(1, int(campaign["rounds"]) + 1):
                pipe.hgetall(keys.round_(campaign_id, number))
            campaign, *rounds = await self._do(pipe.execute())
        if not campaign or not all(rounds):
            return None
        return read_campaign(campaign_id, campaign, rounds)

    async def publish(
        self,
        campaign_id: str,
        *,
        run: str,
        version: int,
        operation: str,
        definition: Mapping[str, Any],
        per_user: int,
        per_device: int,
        rounds: Sequence[Round],
        epoch: int = 1,
        outbox_max: int = OUTBOX_MAX,
        schema: str = scripts.SCHEMA,
    ) -> bool:
        """lua/publish.lua: create the Redis side. False where it was there already."""
        args: list[str | int] = [schema, epoch, run, version, operation]
        args += [json.dumps(definition), per_user, per_device, outbox_max]
        for round_ in rounds:
            args += [round_.opens_at, round_.closes_at, round_.quota]
        reply = await self.run(scripts.PUBLISH, _all_keys(campaign_id, len(rounds)), args)
        return bool(reply[0] == 0)

    async def apply(
        self,
        campaign_id: str,
        *,
        epoch: int,
        version: int,
        operation: str,
        status: str,
        quotas: Sequence[int],
    ) -> int:
        """lua/apply.lua: bring quota and status to the ledger's target. Returns its code."""
        args = [epoch, version, operation, status, *quotas]
        reply = await self.run(scripts.APPLY, _all_keys(campaign_id, len(quotas)), args)
        return int(reply[0])

    async def give_back(
        self, campaign_id: str, epoch: int, floor: int, grants: Sequence[Returning]
    ) -> tuple[str, list[int]]:
        """lua/return.lua for each grant, up to the first code that holds for all of them.

        Returns the run_id of the server that did it, and the codes. All goes over one connection:
        what was asked of one server must not be written on another.
        """
        codes: list[int] = []
        async with self._redis.client() as one:
            run = str((await self._do(one.info("server")))["run_id"])
            schema = await self._do(one.hget(keys.campaign(campaign_id), "schema"))
            if schema not in scripts.READS:
                schema = scripts.SCHEMA
            for grant in grants:
                touched = [keys.campaign(campaign_id), keys.holders(campaign_id)]
                touched += [keys.devices(campaign_id), keys.outbox(campaign_id)]
                touched.append(keys.round_(campaign_id, grant.round))
                args: list[str | int] = [schema, epoch, run, floor, grant.serial, grant.round]
                args += [grant.user_id, grant.device_id]
                code = int((await self.run(scripts.RETURN, touched, args, one))[0])
                codes.append(code)
                if code not in RETURN_CODES_OF_ONE:
                    break
        return run, codes

    async def settle(self, campaign_id: str, epoch: int, watermark: int, holes: str) -> int:
        """lua/settle.lua: note the watermark, trim the outbox below it. Returns its code."""
        touched = [keys.campaign(campaign_id), keys.outbox(campaign_id)]
        reply = await self.run(scripts.SETTLE, touched, [epoch, watermark, holes])
        return int(reply[0])

    async def confirm(self, campaign_id: str, epoch: int, seq_min: int, run: str) -> int:
        """lua/confirm.lua: let this run of the server grant again. Returns its code."""
        touched = [keys.campaign(campaign_id)]
        return int((await self.run(scripts.CONFIRM, touched, [epoch, seq_min, run]))[0])

    # -- outbox and books ------------------------------------------------------------------------

    async def outbox(
        self, campaign_id: str, from_seq: int, to_seq: int | None = None, entries_max: int = 256
    ) -> list[Entry]:
        """Entries whose last seq is `from_seq` or above (and at most `to_seq`), oldest first."""
        entries = await self._do(
            self._redis.xrange(
                keys.outbox(campaign_id),
                min=f"{from_seq}-0",
                max="+" if to_seq is None else f"{to_seq}-0",
                count=entries_max,
            )
        )
        return [read_entry(entry_id, fields) for entry_id, fields in entries]

    async def outbox_wait(
        self, after: Mapping[str, str], entries_max: int, wait_ms: int
    ) -> dict[str, list[Entry]]:
        """The next entries of several campaigns, each after its entry id ("0" for the first).

        At most `entries_max` a campaign; waits up to `wait_ms` (below the time-out) where none
        has any, then answers with nothing.
        """
        named = {keys.outbox(campaign_id): campaign_id for campaign_id in after}
        streams: dict[Any, Any] = {key: after[named[key]] for key in named}
        reply = await self._do(self._redis.xread(streams, count=entries_max, block=max(1, wait_ms)))
        return {
            named[key]: [read_entry(entry_id, fields) for entry_id, fields in entries]
            for key, entries in reply or ()
        }

    async def outbox_length(self, campaign_id: str) -> int:
        """Entries (not facts) that wait in the outbox."""
        return int(await self._do(self._redis.xlen(keys.outbox(campaign_id))))

    async def standings(self, campaign_ids: Iterable[str]) -> dict[str, OutboxStanding]:
        """Where these campaigns stand; one that is missing or damaged in Redis is left out."""
        wanted = list(campaign_ids)
        if not wanted:
            return {}
        async with self._redis.pipeline(transaction=False) as pipe:
            for campaign_id in wanted:
                pipe.hmget(keys.campaign(campaign_id), STANDING)
                pipe.xlen(keys.outbox(campaign_id))
            replies = await self._do(pipe.execute(raise_on_error=False))
        found = zip(wanted, replies[::2], replies[1::2], strict=True)
        standings = {
            campaign_id: read_standing(fields, size) for campaign_id, fields, size in found
        }
        return {campaign_id: s for campaign_id, s in standings.items() if s is not None}

    async def books(
        self, campaign_id: str, rounds: int, watermark: int, entries_max: int = 1000
    ) -> Books | None:
        """lua/books.lua: counters and the outbox above `watermark`, of one moment."""
        touched = [keys.campaign(campaign_id), keys.outbox(campaign_id)]
        touched += [keys.round_(campaign_id, n) for n in range(1, rounds + 1)]
        reply = await self.run(scripts.BOOKS, touched, [watermark, entries_max])
        if not reply[0]:
            return None
        entries = tuple(
            read_entry(entry_id, dict(zip(flat[::2], flat[1::2], strict=True)))
            for entry_id, flat in reply[6]
        )
        rows = tuple((int(q), int(left), int(g), int(r)) for q, left, g, r in reply[5])
        return Books(int(reply[1]), int(reply[2]), int(reply[3]), int(reply[4]), rows, entries)

    async def holders(self, campaign_id: str) -> AsyncIterator[tuple[str, str]]:
        """Every holder with its entry, by HSCAN: a user may come twice while grants go on."""
        cursor = 0
        while True:
            cursor, page = await self._do(
                self._redis.hscan(keys.holders(campaign_id), cursor=cursor, count=1000)
            )
            for user_id, entry in page.items():
                yield user_id, entry
            if not cursor:
                return

    async def holder_counts(self, campaign_id: str) -> tuple[int, int]:
        """How many users and how many devices hold something."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.hlen(keys.holders(campaign_id))
            pipe.hlen(keys.devices(campaign_id))
            users, devices = await self._do(pipe.execute())
        return int(users), int(devices)

    async def device_ids(self, campaign_id: str) -> AsyncIterator[str]:
        """Every device that holds something, by HSCAN; only where devices are limited."""
        cursor = 0
        while True:
            cursor, page = await self._do(
                self._redis.hscan(keys.devices(campaign_id), cursor=cursor, count=1000)
            )
            for device_id in page:
                yield device_id
            if not cursor:
                return

    async def holder(self, campaign_id: str, user_id: str) -> str:
        """One user's entry, "" where there is none."""
        return await self._do(self._redis.hget(keys.holders(campaign_id), user_id)) or ""

    async def entries_of(self, user_id: str, campaign_ids: Sequence[str]) -> list[str]:
        """One user's entries in these campaigns in their order, "" where there is none."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for campaign_id in campaign_ids:
                pipe.hget(keys.holders(campaign_id), user_id)
            return [entry or "" for entry in await self._do(pipe.execute())]

    async def holders_of(self, campaign_id: str, user_ids: Sequence[str]) -> list[str]:
        """The entries of these users in their order, "" where there is none."""
        if not user_ids:
            return []
        found = await self._do(self._redis.hmget(keys.holders(campaign_id), list(user_ids)))
        return [entry or "" for entry in found]

    # -- gateways --------------------------------------------------------------------------------

    async def report_gateway(self, gateway_id: str, report: GatewayReport) -> None:
        """A gateway's floors, so that a restarted server is confirmed only past them."""
        value = json.dumps(
            {"run": report.run, "at_ms": report.at_ms, "floors": dict(report.floors)}
        )
        await self._do(self._redis.hset(keys.GATEWAYS, gateway_id, value))

    async def gateways(self) -> dict[str, GatewayReport]:
        """The last report of every gateway."""
        rows = await self._do(self._redis.hgetall(keys.GATEWAYS))
        reports = {gateway_id: json.loads(value) for gateway_id, value in rows.items()}
        return {
            gateway_id: GatewayReport(said["run"], said["at_ms"], said["floors"])
            for gateway_id, said in reports.items()
        }

    async def forget_gateways(self, gateway_ids: Iterable[str]) -> None:
        """Remove reports of gateways that are gone."""
        if gone := list(gateway_ids):
            await self._do(self._redis.hdel(keys.GATEWAYS, *gone))

    # -- relays ----------------------------------------------------------------------------------

    async def lease(self, holder: str, epoch: int, lease_ms: int) -> LeaseReply:
        """lua/lease.lua: take the relay's lease (epoch 0), keep it, or give it up (0 ms)."""
        code, current, left_ms = await self.run(
            scripts.LEASE, [keys.RELAY], [holder, epoch, lease_ms]
        )
        return LeaseReply(code == 0, int(current), int(left_ms))

    # -- how commands run ------------------------------------------------------------------------

    async def run(
        self,
        script: scripts.Script,
        touched: Sequence[str],
        args: Sequence[Any],
        client: "redis.Redis | None" = None,
    ) -> Any:
        """One script call; loads the script and repeats once on NOSCRIPT (then nothing ran)."""
        client = client or self._redis
        call = (script.sha, len(touched), *touched, *args)
        started = time.perf_counter()
        try:
            reply = await self._do(client.evalsha(*call))
        except NoScriptError:
            await self._do(client.script_load(script.text))
            reply = await self._again(client, call)
        if self._took is not None:
            self._took(script.name, time.perf_counter() - started)
        return reply

    async def _again(self, client: "redis.Redis", call: tuple[Any, ...]) -> Any:
        try:
            return await self._do(client.evalsha(*call))
        except NoScriptError as error:
            raise StoreRefused(f"Redis: {error}") from error

    async def _do(self, command: Any) -> Any:
        try:
            return await command
        except NoScriptError:
            raise
        except (RedisConnectionError, RedisTimeoutError, OSError) as error:
            raise StoreUnavailable(f"Redis: {error}") from error
        except RedisError as error:
            raise StoreRefused(f"Redis: {error}") from error


def _all_keys(campaign_id: str, rounds: int) -> list[str]:
    return [
        keys.campaign(campaign_id),
        *(keys.round_(campaign_id, number) for number in range(1, rounds + 1)),
    ]
