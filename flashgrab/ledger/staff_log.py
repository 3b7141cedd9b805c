"""Who did what: one row a write, begun before it happens, so that none goes unseen."""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flashgrab.ledger.pool import Pool
from flashgrab.ledger.staff import Holder

PAGE_MAX = 1000

State = Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Entry:
    """`status` and `code` are None where the centre died, or lost PostgreSQL, inside the call."""

    entry: str
    at_ms: int
    name: str
    role: str
    credential: str
    action: str
    target: str
    operation: str
    before: State
    after: State
    status: int | None
    code: str | None
    ended_ms: int | None


async def begin(
    pool: Pool,
    who: Holder,
    *,
    action: str,
    target: str,
    operation: str,
    before: State,
    now_ms: int,
) -> str:
    """Note that somebody is about to do something; gives the entry's id."""
    entry = secrets.token_hex(8)
    async with pool.connection() as connection:
        await connection.execute(
            "INSERT INTO staff_log (entry, at_ms, name, role, credential, action, target,"
            " operation, before) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            entry,
            now_ms,
            who.name,
            who.role.value,
            who.id,
            action,
            target,
            operation,
            _json(before),
        )
    return entry


async def finish(
    pool: Pool, entry: str, *, target: str, after: State, status: int, code: str, now_ms: int
) -> None:
    """Note how it ended: the HTTP status, and the code of a refusal or OK."""
    async with pool.connection() as connection:
        await connection.execute(
            "UPDATE staff_log SET target = $2, after = $3, status = $4, code = $5, ended_ms = $6"
            " WHERE entry = $1",
            entry,
            target,
            _json(after),
            status,
            code,
            now_ms,
        )


async def page(pool: Pool, limit: int, name: str = "") -> Sequence[Entry]:
    """The latest, the newest first; `name`: of one person."""
    async with pool.connection() as connection:
        rows = await connection.fetch(
            "SELECT * FROM staff_log WHERE $2 = '' OR name = $2"
            " ORDER BY at_ms DESC, entry LIMIT $1",
            min(limit, PAGE_MAX),
            name,
        )
    return [_entry(row) for row in rows]


def _entry(row: Any) -> Entry:
    fields = dict(row)
    for side in ("before", "after"):
        fields[side] = None if fields[side] is None else json.loads(fields[side])
    return Entry(**fields)


def _json(state: State) -> str | None:
    return None if state is None else json.dumps(state)
