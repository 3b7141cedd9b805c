"""The buyers' passes: signed here, or asked for."""

import asyncio
import time

import pytest

from flashgrab.cli.failure import Failure
from flashgrab.cli.rehearsal import tickets
from flashgrab.passes import PassKeys
from tests.cli.rehearsal.scripted import Scripted, header, scripted

KEYS = "k1:" + "x" * 40


def test_a_pass_signed_here_is_what_a_gateway_takes() -> None:
    """Campaign, user, the user's own device, and a day of validity."""
    token = tickets.sign_here(KEYS)("c1", "u1")
    now_ms = time.time_ns() // 1_000_000
    checked = PassKeys.parse(KEYS).check(token, now_ms)
    assert checked is not None
    assert (checked.campaign_id, checked.user_id, checked.device_id) == ("c1", "u1", "u1")
    assert tickets.VALID_MS - 60_000 < checked.expires_ms - now_ms <= tickets.VALID_MS


def test_keys_without_form_are_one_line() -> None:
    """It names the setting, not the value."""
    with pytest.raises(Failure, match="FLASHGRAB_PASS_KEYS") as failure:
        tickets.sign_here("k1:secret-but-short")
    assert "secret" not in str(failure.value)


def test_passes_are_asked_for_as_a_buyer_does() -> None:
    """Identity first, then the pass with it; a lost answer and a 503 are repeated."""
    hiccups: list[Scripted] = [None, (503, {"code": "BUSY", "retry_after_ms": 1})]

    def answer(head: str) -> Scripted:
        if hiccups:
            return hiccups.pop()
        if head.startswith("POST /demo/identity"):
            return 201, {"token": "identity"}
        assert header(head, "Authorization") == "Bearer identity"
        return 201, {"pass": "pass-of-" + header(head, "X-Device-Id")}

    async def story() -> None:
        async with scripted(answer) as gateway:
            wanted = [("c1", f"u{n}") for n in range(20)]
            pass_of = await tickets.fetch(gateway.address, wanted, connections=3)
            assert pass_of("c1", "u7") == "pass-of-u7"
            with pytest.raises(KeyError):
                pass_of("c1", "u20")

    asyncio.run(story())


def test_a_gateway_that_mints_none_is_one_line() -> None:
    """404 at /demo/identity: the line says what to set."""

    async def story() -> None:
        async with scripted(lambda _head: (404, {"code": "NOT_FOUND"})) as gateway:
            await tickets.fetch(gateway.address, [("c", "u")], connections=2)

    with pytest.raises(Failure, match=r"NOT_FOUND.*FLASHGRAB_PASS_KEYS"):
        asyncio.run(story())
