"""Management changes: each with an operation id, committed here before Redis hears of it.

An operation repeated with its id is applied once and answers the stored result; the same id with
another request is refused. Campaigns are locked by row, so every change sees the one before it.
"""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from flashgrab.clock import Clock
from flashgrab.errors import DefinitionInvalid, OperationRefused
from flashgrab.ledger import rebuilds
from flashgrab.ledger.campaigns import Campaign, locked
from flashgrab.ledger.pool import Pool
from flashgrab.model import QUOTA_MAX, Definition, Status, fix_times, parse, to_plain

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

    Transaction = PoolConnectionProxy[asyncpg.Record]

Action = Literal["publish", "pause", "resume", "restock", "close", "rebuild"]

DIFFERENCES_MAX = 50
_LOCK_SEED = 0x6F70
"""Keeps the advisory locks of operation ids apart from others."""


@dataclass(frozen=True, slots=True)
class Move:
    """From which statuses an action is allowed, and to which it leads (None: it stays)."""

    allowed: frozenset[Status]
    to: Status | None


MOVES: dict[Action, Move] = {
    "publish": Move(frozenset({"DRAFT"}), "PUBLISHED"),
    "pause": Move(frozenset({"PUBLISHED"}), "PAUSED"),
    "resume": Move(frozenset({"PAUSED"}), "PUBLISHED"),
    "restock": Move(frozenset({"PUBLISHED", "PAUSED"}), None),
    "close": Move(frozenset({"PUBLISHED", "PAUSED"}), "OFFLINE"),
    "rebuild": Move(frozenset({"PUBLISHED", "PAUSED", "OFFLINE"}), None),
}
"""The transitions; anything that is not here is refused."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of an existing campaign; `round` and `add` belong to restock, `without_kafka` to
    rebuild: Kafka is gone for good, and what only it had is not waited for."""

    action: Action
    round: int = 0
    add: int = 0
    without_kafka: bool = False

    def request(self, campaign_id: str) -> dict[str, Any]:
        """What the operation id stands for."""
        request: dict[str, Any] = {"action": self.action, "campaign_id": campaign_id}
        request |= {"without_kafka": True} if self.without_kafka else {}
        return request | ({"round": self.round, "add": self.add} if self.round else {})


@dataclass(frozen=True, slots=True)
class Result:
    """What an operation did, or (`repeated`) what it did when it first came.

    `there`: a create that found the same content under the id, and changed nothing.
    """

    fields: dict[str, Any]
    repeated: bool = False
    there: bool = False


@dataclass(frozen=True, slots=True)
class Difference:
    """One field in which two definitions differ; None where a side does not have it."""

    field: str
    there: Any
    given: Any


class CampaignExists(OperationRefused):
    """A create met other content under its id."""

    def __init__(self, campaign_id: str, differences: list[Difference]) -> None:
        super().__init__(
            "CAMPAIGN_EXISTS", f"campaign {campaign_id} exists with other content; nothing changed"
        )
        self.differences = differences


class Operations:
    """The changes, on one pool. All raise OperationRefused and LedgerUnavailable."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock

    async def create(self, operation: str, definition: Definition) -> Result:
        """A new DRAFT. Raises CampaignExists where the id has other content."""
        campaign_id, content = definition.id, to_plain(definition)
        request = {"action": "create", "campaign_id": campaign_id, "definition": content}
        async with self._pool.transaction() as tx:
            if repeated := await before(tx, operation, request):
                return repeated
            created = await tx.fetchval(
                "INSERT INTO campaigns (campaign_id, definition, status, version, per_user,"
                " per_device, operation, created_ms) VALUES ($1, $2, 'DRAFT', 1, $3, $4, $5, $6)"
                " ON CONFLICT (campaign_id) DO NOTHING RETURNING 1",
                campaign_id,
                json.dumps(content),
                definition.per_user,
                definition.per_device,
                operation,
                self._clock.now_ms(),
            )
            campaign = await _locked(tx, campaign_id)
            fields = _fields("create", operation, campaign_id, campaign.status, campaign.version)
            if not created:
                if unlike := differences(_definition(campaign), definition):
                    raise CampaignExists(campaign_id, unlike)
                return Result(fields, there=True)
            await note(tx, operation, request, fields, self._clock.now_ms())
        return Result(fields)

    async def change(self, operation: str, campaign_id: str, change: Change) -> Result:
        """Any other change. Raises DefinitionInvalid too: publish fixes the times."""
        async with self._pool.transaction() as tx:
            return await self.change_in(tx, operation, campaign_id, change)

    async def change_in(
        self, tx: "Transaction", operation: str, campaign_id: str, change: Change
    ) -> Result:
        """The same as part of a larger transaction."""
        request = change.request(campaign_id)
        if repeated := await before(tx, operation, request):
            return repeated
        campaign = await _locked(tx, campaign_id)
        status = _status_after(campaign, change.action)
        version = campaign.version + 1
        fields = _fields(change.action, operation, campaign_id, status, version)
        if change.action == "publish":
            await self._publish(tx, campaign)
        if change.action == "restock":
            fields |= await _restock(tx, campaign, change)
        if change.action == "rebuild":
            await self._rebuild(tx, campaign, operation, change)
        await tx.execute(
            "UPDATE campaigns SET status = $2, version = $3, operation = $4 WHERE campaign_id = $1",
            campaign_id,
            status,
            version,
            operation,
        )
        await note(tx, operation, request, fields, self._clock.now_ms())
        return Result(fields)

    async def _publish(self, tx: "Transaction", campaign: Campaign) -> None:
        """Fix the times, counted from now, and write the rounds."""
        now_ms = self._clock.now_ms()
        rounds = fix_times(_definition(campaign), now_ms, campaign.campaign_id)
        await tx.executemany(
            "INSERT INTO rounds (campaign_id, number, opens_at, closes_at, quota)"
            " VALUES ($1, $2, $3, $4, $5)",
            [(campaign.campaign_id, r.number, r.opens_at, r.closes_at, r.quota) for r in rounds],
        )
        await tx.execute(
            "UPDATE campaigns SET published_ms = $2 WHERE campaign_id = $1",
            campaign.campaign_id,
            now_ms,
        )

    async def _rebuild(
        self, tx: "Transaction", campaign: Campaign, operation: str, change: Change
    ) -> None:
        """It begins with its row; centre/rebuild.py does the rest."""
        campaign_id, without = campaign.campaign_id, change.without_kafka
        if not campaign.applied_version:
            why = f"campaign {campaign_id} was never in Redis: there is nothing to rebuild"
            raise OperationRefused("STATUS_CONFLICT", why)
        if not await rebuilds.begin(tx, campaign_id, operation, without, self._clock.now_ms()):
            why = f"campaign {campaign_id} is being rebuilt already; `campaign show` says how far"
            raise OperationRefused("STATUS_CONFLICT", why)


def differences(there: Definition, given: Definition) -> list[Difference]:
    """Field by field, at most DIFFERENCES_MAX, in the order of the one that is there."""
    old, new = (dict(_leaves("", msgspec.to_builtins(d))) for d in (there, given))
    return [
        Difference(field, old.get(field), new.get(field))
        for field in old | new
        if old.get(field) != new.get(field)
    ][:DIFFERENCES_MAX]


def _leaves(path: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        parts = [(f"{path}.{key}" if path else key, inner) for key, inner in value.items()]
    elif isinstance(value, list):
        parts = [(f"{path}[{number}]", inner) for number, inner in enumerate(value)]
    else:
        return [(path, value)]
    return [leaf for part, inner in parts for leaf in _leaves(part, inner)]


async def before(tx: "Transaction", operation: str, request: dict[str, Any]) -> Result | None:
    """The stored result of an operation id that came before; the same id waits for its turn."""
    await tx.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended($1, $2))", operation, _LOCK_SEED
    )
    query = "SELECT request, result FROM operations WHERE operation = $1"
    row = await tx.fetchrow(query, operation)
    if row is None:
        return None
    if json.loads(row["request"]) != request:
        raise OperationRefused(
            "IDEMPOTENCY_KEY_REUSED",
            f"operation {operation} was another request before; give this one a key of its own",
        )
    return Result(json.loads(row["result"]), repeated=True)


async def note(
    tx: "Transaction",
    operation: str,
    request: dict[str, Any],
    fields: dict[str, Any],
    now_ms: int,
) -> None:
    """Keep what an operation did, for its repeats."""
    await tx.execute(
        "INSERT INTO operations (operation, campaign_id, request, result, version, at_ms)"
        " VALUES ($1, $2, $3, $4, $5, $6)",
        operation,
        fields["campaign_id"],
        json.dumps(request),
        json.dumps(fields),
        fields["version"],
        now_ms,
    )


async def _locked(tx: "Transaction", campaign_id: str) -> Campaign:
    campaign = await locked(tx, campaign_id)
    if campaign is None:
        raise OperationRefused("CAMPAIGN_NOT_FOUND", f"there is no campaign {campaign_id}")
    return campaign


def _definition(campaign: Campaign) -> Definition:
    return parse(campaign.definition, campaign.campaign_id)


def _status_after(campaign: Campaign, action: Action) -> Status:
    move = MOVES[action]
    if campaign.status not in move.allowed:
        raise OperationRefused(
            "STATUS_CONFLICT",
            f"campaign {campaign.campaign_id} is {campaign.status};"
            f" {action} needs {' or '.join(sorted(move.allowed, reverse=True))}",
        )
    return move.to or campaign.status


async def _restock(tx: "Transaction", campaign: Campaign, change: Change) -> dict[str, Any]:
    count = len(campaign.rounds)
    if not 1 <= change.round <= count:
        raise DefinitionInvalid(f"round: campaign {campaign.campaign_id} has rounds 1 to {count}")
    quota = campaign.rounds[change.round - 1].quota + change.add
    if not campaign.rounds[change.round - 1].quota < quota <= QUOTA_MAX:
        raise DefinitionInvalid(f"add: the quota would be {quota}, it has to be ≤ {QUOTA_MAX}")
    await tx.execute(
        "UPDATE rounds SET quota = $3 WHERE campaign_id = $1 AND number = $2",
        campaign.campaign_id,
        change.round,
        quota,
    )
    return {"round": change.round, "quota": quota}


def _fields(
    action: str, operation: str, campaign_id: str, status: Status, version: int
) -> dict[str, Any]:
    return {
        "campaign_id": campaign_id,
        "action": action,
        "operation": operation,
        "status": status,
        "version": version,
    }
