"""Who may manage: tokens, one-time sign-in links and sessions, kept as hashes.

All three are credentials with a role and an end; they differ in where they are shown: a token in a
header, a link once, a session in a cookie.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flashgrab.errors import OperationRefused
from flashgrab.ledger.pool import Pool
from flashgrab.staff import ROOT, Credential, Kind, Role, make

LINK_MS = 10 * 60_000
SESSION_MS = 12 * 3_600_000
LISTED_MAX = 1000
FORGET_MS = 7 * 86_400_000
"""So long after its end a link or a session is kept for those who ask; then a new one sweeps it."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who is asking, once a credential was checked. `id` is "root" for ADMIN_TOKEN."""

    id: str
    kind: Kind
    name: str
    role: Role
    expires_ms: int


@dataclass(frozen=True, slots=True)
class Kept:
    """A credential as the ledger has it, without its hash."""

    id: str
    kind: Kind
    name: str
    role: Role
    made_by: str
    created_ms: int
    expires_ms: int
    ended_ms: int | None


async def find(pool: Pool, shown: Credential, now_ms: int) -> Holder | None:
    """Who holds this; None where it is unknown, wrong, over or revoked: nobody learns which."""
    async with pool.connection() as connection:
        row = await connection.fetchrow(
            "SELECT name, role, hash, expires_ms, ended_ms FROM staff WHERE id = $1 AND kind = $2",
            shown.id,
            shown.kind,
        )
    if not shown.is_of(row["hash"] if row else None):
        return None
    assert row is not None
    if row["ended_ms"] is not None or row["expires_ms"] <= now_ms:
        return None
    return Holder(shown.id, shown.kind, row["name"], Role(row["role"]), row["expires_ms"])


async def create_token(
    pool: Pool, operation: str, name: str, role: Role, valid_ms: int, by: Holder, now_ms: int
) -> Credential:
    """A token for somebody. The same operation again gives the same token a new secret, since the
    old one was in an answer that got lost. Raises OperationRefused where it was another request.
    """
    made = make("token")
    async with pool.connection() as connection:
        given = await connection.fetchval(
            "INSERT INTO staff (id, kind, name, role, hash, operation, made_by, created_ms,"
            " expires_ms) VALUES ($1, 'token', $2, $3, $4, $5, $6, $7, $8)"
            " ON CONFLICT (operation) DO UPDATE SET hash = $4"
            " WHERE staff.kind = 'token' AND staff.name = $2 AND staff.role = $3"
            " AND staff.ended_ms IS NULL RETURNING id",
            made.id,
            name,
            role.value,
            made.hashed(),
            operation,
            by.name,
            now_ms,
            now_ms + valid_ms,
        )
    if given is None:
        raise OperationRefused(
            "IDEMPOTENCY_KEY_REUSED",
            f"operation {operation} was another request before; give this one a key of its own",
        )
    return made._replace(id=given)


async def create_link(pool: Pool, by: Holder, now_ms: int) -> tuple[Credential, int]:
    """A link that signs its maker in, once; and when it ends."""
    made, expires_ms = make("link"), min(now_ms + LINK_MS, by.expires_ms)
    async with pool.transaction() as tx:
        await tx.execute(
            "DELETE FROM staff s WHERE kind = 'session' AND expires_ms < $1", now_ms - FORGET_MS
        )
        await tx.execute(
            "DELETE FROM staff s WHERE kind = 'link' AND expires_ms < $1"
            " AND NOT EXISTS (SELECT FROM staff c WHERE c.parent = s.id)",
            now_ms - FORGET_MS,
        )
        await tx.execute(
            "INSERT INTO staff (id, kind, name, role, hash, parent, made_by, created_ms,"
            " expires_ms) VALUES ($1, 'link', $2, $3, $4, $5, $2, $6, $7)",
            made.id,
            by.name,
            by.role.value,
            made.hashed(),
            None if by.id == ROOT else by.id,
            now_ms,
            expires_ms,
        )
    return made, expires_ms


async def sign_in(pool: Pool, link: Credential, now_ms: int) -> tuple[Credential, Holder] | None:
    """A session for a link, which is used up by it; None where it is not valid (any more).

    A session does not outlive the token that its link was made with.
    """
    holder = await find(pool, link, now_ms)
    if holder is None:
        return None
    made = make("session")
    async with pool.transaction() as tx:
        used = await tx.fetchrow(
            "UPDATE staff l SET ended_ms = $2 WHERE id = $1 AND kind = 'link' AND ended_ms IS NULL"
            " RETURNING (SELECT expires_ms FROM staff t WHERE t.id = l.parent) AS parent_ends_ms",
            link.id,
            now_ms,
        )
        if used is None:
            return None  # another one was quicker
        expires_ms = min(now_ms + SESSION_MS, used["parent_ends_ms"] or now_ms + SESSION_MS)
        await tx.execute(
            "INSERT INTO staff (id, kind, name, role, hash, parent, made_by, created_ms,"
            " expires_ms) VALUES ($1, 'session', $2, $3, $4, $5, $2, $6, $7)",
            made.id,
            holder.name,
            holder.role.value,
            made.hashed(),
            link.id,
            now_ms,
            expires_ms,
        )
    return made, Holder(made.id, "session", holder.name, holder.role, expires_ms)


async def end(pool: Pool, id_: str, now_ms: int) -> Kept | None:
    """Revoke a credential, and what signed in by it; again changes nothing. None: there is none."""
    async with pool.connection() as connection:
        rows = await connection.fetch(
            "WITH RECURSIVE theirs AS ("
            " SELECT id FROM staff WHERE id = $1"
            " UNION ALL SELECT s.id FROM staff s JOIN theirs t ON s.parent = t.id)"
            " UPDATE staff SET ended_ms = coalesce(ended_ms, $2)"
            " WHERE id IN (SELECT id FROM theirs) RETURNING *",
            id_,
            now_ms,
        )
    return next((one for one in map(_kept, rows) if one.id == id_), None)


async def token_of(pool: Pool, id_: str) -> str:
    """The token that a session was made with in the end: itself for a token, ROOT for the root."""
    async with pool.connection() as connection:
        found = await connection.fetchval(
            "WITH RECURSIVE up AS ("
            " SELECT id, kind, parent FROM staff WHERE id = $1"
            " UNION ALL SELECT s.id, s.kind, s.parent FROM staff s JOIN up u ON s.id = u.parent)"
            " SELECT id FROM up WHERE kind = 'token'",
            id_,
        )
    return str(found) if found else ROOT


async def stands(pool: Pool, id_: str, now_ms: int) -> bool:
    """Whether a credential is neither revoked nor over."""
    async with pool.connection() as connection:
        return bool(
            await connection.fetchval(
                "SELECT ended_ms IS NULL AND expires_ms > $2 FROM staff WHERE id = $1", id_, now_ms
            )
        )


async def listed(pool: Pool) -> Sequence[Kept]:
    """Tokens, and the links and sessions that are not swept yet; the newest first."""
    async with pool.connection() as connection:
        rows = await connection.fetch(
            "SELECT * FROM staff ORDER BY created_ms DESC, id LIMIT $1", LISTED_MAX
        )
    return [_kept(row) for row in rows]


def _kept(row: Any) -> Kept:
    fields = {field.name: row[field.name] for field in dataclasses.fields(Kept)}
    return Kept(**fields | {"role": Role(row["role"])})
