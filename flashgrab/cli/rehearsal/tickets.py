"""The buyers' passes: signed here where the keys are known, else asked for as a buyer does."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator

import orjson

from flashgrab.cli.failure import fail
from flashgrab.cli.rehearsal.connection import Address, Connection, NoReply, Reply
from flashgrab.cli.rehearsal.crowd import read_body, together
from flashgrab.cli.rehearsal.rules import backoff_ms, pause_ms
from flashgrab.passes import PassKeys, issue

PassOf = Callable[[str, str], str]
"""Campaign id and user id to a pass. The device of a buyer has his id."""

VALID_MS = 24 * 3_600_000
TRIES_MAX = 10
TIMEOUT_S = 10.0


def sign_here(pass_keys: str) -> PassOf:
    """Passes signed with the gateway's keys, without network. Exit 2 where they have no form."""
    try:
        keys = PassKeys.parse(pass_keys)
    except ValueError as error:
        fail(f"FLASHGRAB_PASS_KEYS: {error}")
    expires_ms = int(time.time() * 1000) + VALID_MS
    return lambda campaign_id, user_id: issue(keys, campaign_id, user_id, user_id, expires_ms)


async def fetch(address: Address, wanted: Iterable[tuple[str, str]], *, connections: int) -> PassOf:
    """Passes by demo identity and POST …/passes, for pairs of campaign id and user id.

    Exit 2 where the gateway mints no identities (it runs without --demo).
    """
    passes: dict[tuple[str, str], str] = {}
    shared = iter(wanted)
    await together(_fetch_some(address, shared, passes) for _ in range(connections))
    return lambda campaign_id, user_id: passes[campaign_id, user_id]


async def _fetch_some(
    address: Address, wanted: Iterator[tuple[str, str]], passes: dict[tuple[str, str], str]
) -> None:
    connection = Connection(address)
    try:
        for campaign_id, user_id in wanted:
            identity = await _post(
                connection, address, "/demo/identity", body=orjson.dumps({"user_id": user_id})
            )
            granted = await _post(
                connection,
                address,
                f"/v1/campaigns/{campaign_id}/passes",
                f"Authorization: Bearer {identity['token']}\r\nX-Device-Id: {user_id}\r\n",
            )
            passes[campaign_id, user_id] = granted["pass"]
    finally:
        connection.close()


async def _post(
    connection: Connection, address: Address, path: str, headers: str = "", body: bytes = b""
) -> dict[str, str]:
    head = f"POST {path} HTTP/1.1\r\nHost: {address.authority}\r\n{headers}"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    reply = Reply(0, b"")
    for tries in range(1, TRIES_MAX + 1):
        wait_ms: int | None = None
        try:
            reply = await connection.ask(request, TIMEOUT_S)
        except NoReply:
            wait_ms = backoff_ms(tries)
        else:
            wait_ms = pause_ms(reply.status, read_body(reply), tries)
        if wait_ms is None:
            break
        await asyncio.sleep(wait_ms / 1000)
    if reply.status != 201:
        said = read_body(reply).get("code", f"status {reply.status}")
        fail(
            f"no passes: POST {path} answered {said}; set FLASHGRAB_PASS_KEYS to sign them here,"
            " or run the gateway with --demo"
        )
    return read_body(reply)
