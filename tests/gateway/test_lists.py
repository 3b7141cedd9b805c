"""Audience and blocklist at a gateway, with the lists in a real Redis."""

import os
import time
import tracemalloc
from collections.abc import AsyncIterator, Sequence

import pytest

from flashgrab import keys
from flashgrab.links import Link, LinkKeys
from flashgrab.list_commands import SegmentHead
from flashgrab.segments import CHUNK_BYTES, DIGEST_BYTES, Reader, SegmentKey
from tests.gateway.asking import ask_pass, assert_problem, identity
from tests.gateway.serving import HOUR_MS, PASS_KEYS, SEGMENT_KEY, Served, serving, until
from tests.lua.server import Client, Valkey

pytestmark = pytest.mark.anyio

KEY = SegmentKey.parse(SEGMENT_KEY)
MILLION = 1_000_000
BYTES_MAX = 32 * 1024 * 1024
POLLED_S = 1.0
"""In which a change arrives whose push was lost."""


@pytest.fixture(autouse=True)
async def nobody_blocked(served: Served) -> AsyncIterator[None]:
    """Each test begins and ends with an empty blocklist."""
    await block(served)
    yield
    await block(served)


async def block(served: Served, *names: str, until_ms: int = 0, stamp: str = "") -> None:
    """Make these the blocklist, and wait until the gateway has it."""
    stamp = stamp or f"b{time.monotonic_ns()}"
    await served.store.put_blocks(stamp, dict.fromkeys(names, until_ms))
    await until("it is here", lambda: served.gateway.lists._stamp == stamp)


async def in_parts(parts: Sequence[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def load(served: Served, campaign_id: str, *users: str, key: SegmentKey = KEY) -> None:
    """Make these the campaign's segment."""
    reader = Reader(key)
    reader.feed("\n".join(users).encode())
    loaded = reader.end()
    head = SegmentHead(loaded.stamp, key.mark, loaded.members, len(loaded.chunks))
    await served.store.put_segment(campaign_id, head, in_parts(loaded.chunks))


# -- audience --------------------------------------------------------------------------------------


async def test_a_segment_gets_passes_and_nobody_else(served: Served) -> None:
    """Unknown before it is loaded (503), then its members only; another list takes its place."""
    campaign_id = await served.campaign(audience="segment", segment="vip")
    early = await ask_pass(served, campaign_id, **identity("anna"))
    assert_problem(early, 503, "BACKEND_UNAVAILABLE")
    await load(served, campaign_id, "anna", "bert@b.example")
    await until("it is here", lambda: served.gateway.lists.holds(campaign_id, "anna"))
    for user in ("anna", "bert@b.example"):
        assert (await ask_pass(served, campaign_id, **identity(user))).status_code == 201
    refused = await ask_pass(served, campaign_id, **identity("carl"))
    assert_problem(refused, 403, "NOT_IN_AUDIENCE")

    before = await served.store.segment(campaign_id)
    assert before is not None
    await load(served, campaign_id, "carl")
    await until("it is here", lambda: served.gateway.lists.holds(campaign_id, "carl"))
    refused = await ask_pass(served, campaign_id, **identity("anna"))
    assert_problem(refused, 403, "NOT_IN_AUDIENCE")
    old = keys.segment_chunks(campaign_id, before.stamp)
    assert not await served.store._redis.exists(old)


async def test_a_segment_of_another_key_lets_nobody_in(served: Served) -> None:
    """Digests of another secret would make every member a stranger: 503 says that it is us."""
    campaign_id = await served.campaign(audience="segment", segment="vip")
    await load(served, campaign_id, "anna", key=SegmentKey.parse("o" * 32))
    await until("it was looked at", lambda: campaign_id in served.gateway.lists._said)
    answer = await ask_pass(served, campaign_id, **identity("anna"))
    assert_problem(answer, 503, "BACKEND_UNAVAILABLE")


async def test_a_segment_outlives_a_redis_that_lost_it(served: Served) -> None:
    """What is gone from Redis stays here until the centre brings another one."""
    campaign_id = await served.campaign(audience="segment", segment="vip")
    await load(served, campaign_id, "anna")
    await until("it is here", lambda: served.gateway.lists.holds(campaign_id, "anna"))
    await served.store.forget_segment(campaign_id)
    await served.gateway.lists._refresh()
    assert (await ask_pass(served, campaign_id, **identity("anna"))).status_code == 201


async def test_an_audience_of_a_newer_release_is_refused(served: Served) -> None:
    """Who may come in is not guessed."""
    campaign_id = await served.campaign(audience="moonlight")
    answer = await ask_pass(served, campaign_id, **identity("anna"))
    assert_problem(answer, 503, "BACKEND_UNAVAILABLE")


async def test_a_claim_link_opens_a_campaign(served: Served) -> None:
    """As header or in the query; without one, or with another user's or campaign's, 403."""
    campaign_id = await served.campaign(audience="links")
    links = LinkKeys.parse(PASS_KEYS)
    expires_ms = served.gateway.clock.now_ms() + HOUR_MS
    mine = links.sign(Link(campaign_id, "a@b.example", "mail", expires_ms))
    anybody = links.sign(Link(campaign_id, "", "", expires_ms))
    other = links.sign(Link("other", "", "", expires_ms))
    over = links.sign(Link(campaign_id, "", "", 1))
    cases = [
        ("a@b.example", mine, 201), ("carl", mine, 403), ("carl", anybody, 201),
        ("carl", other, 403), ("carl", over, 403), ("carl", "", 403), ("carl", mine[:-1], 403),
    ]  # fmt: skip
    path = f"/v1/campaigns/{campaign_id}/passes"
    for user, claim, status in cases:
        headers = identity(user)
        by_header = await served.http.post(path, headers=headers | {"x-claim": claim})
        by_query = await served.http.post(f"{path}?claim={claim}", headers=headers)
        for answer in (by_header, by_query):
            assert answer.status_code == status, (user, claim)
            if status == 403:
                assert_problem(answer, 403, "NOT_IN_AUDIENCE")


async def test_a_link_means_nothing_elsewhere(served: Served) -> None:
    """A campaign for all takes whatever claim there is, and does not look at it."""
    campaign_id = await served.campaign()
    answer = await ask_pass(served, campaign_id, x_claim="junk", **identity("anna"))
    assert answer.status_code == 201


# -- blocklist -------------------------------------------------------------------------------------


async def test_who_is_blocked_gets_no_pass(served: Served) -> None:
    """By user, by device, by network; before anything is said of the campaign."""
    campaign_id = await served.campaign()
    await block(served, "user:anna", "device:phone")
    for headers in (identity("anna"), {**identity("bert"), "x_device_id": "phone"}):
        assert_problem(await ask_pass(served, campaign_id, **headers), 403, "BLOCKED")
        assert_problem(await ask_pass(served, "no-such", **headers), 403, "BLOCKED")
    assert (await ask_pass(served, campaign_id, **identity("bert"))).status_code == 201
    await block(served, "address:127.0.0.0/24")
    assert_problem(await ask_pass(served, campaign_id, **identity("bert")), 403, "BLOCKED")
    assert served.gateway.blocked is None  # a pass has no address: a grab looks at nothing


async def test_a_pass_of_before_is_stopped_at_the_grab(served: Served) -> None:
    """Its user, or its device; a winner's repeat too; and all is as before once they are off."""
    campaign_id = await served.campaign(quota=5)
    assert (await served.grab(campaign_id, "anna", "k")).status_code == 201
    await block(served, "user:anna", "device:phone")
    assert_problem(await served.grab(campaign_id, "anna", "k"), 403, "BLOCKED")
    assert_problem(await served.grab(campaign_id, "bert", device="phone"), 403, "BLOCKED")
    assert_problem(await served.grab("no-such", "anna"), 403, "BLOCKED")
    assert (await served.grab(campaign_id, "bert", "k")).status_code == 201
    await block(served)
    assert served.gateway.blocked is None
    assert (await served.grab(campaign_id, "anna", "k")).status_code == 200


async def test_a_block_ends_by_itself(served: Served) -> None:
    """Its time is looked at by Redis' clock at every request."""
    campaign_id = await served.campaign()
    await block(served, "user:anna", until_ms=await served.store.now_ms() + 300)
    assert_problem(await served.grab(campaign_id, "anna"), 403, "BLOCKED")

    async def is_in() -> bool:
        return (await served.grab(campaign_id, "anna", "k")).status_code in (200, 201)

    await until("it is over", is_in)


async def test_a_lost_push_costs_less_than_a_second(served: Served, redis_server: Valkey) -> None:
    """The list changes and nobody is told: the stamp is looked at twice a second."""
    redis = Client(redis_server.path)
    campaign_id = await served.campaign()
    begun = time.monotonic()
    redis.call("HSET", keys.BLOCKS, "stamp", "silent", "user:anna", 0)
    await until("it is here", lambda: served.gateway.blocked is not None)
    assert time.monotonic() - begun < POLLED_S + 1  # of which one for a busy machine
    redis.close()
    assert_problem(await served.grab(campaign_id, "anna"), 403, "BLOCKED")


async def test_a_list_that_redis_lost_is_kept(served: Served) -> None:
    """Missing is not empty."""
    campaign_id = await served.campaign()
    await block(served, "user:anna")
    await served.store._redis.delete(keys.BLOCKS)
    await served.gateway.lists._refresh()
    assert_problem(await served.grab(campaign_id, "anna"), 403, "BLOCKED")


async def test_a_gateway_begins_with_the_list(served: Served, redis_server: Valkey) -> None:
    """The first request of a new process meets it."""
    campaign_id = await served.campaign()
    await block(served, "user:anna", stamp="kept")
    async with serving(redis_server.url) as later:
        assert_problem(await later.grab(campaign_id, "anna"), 403, "BLOCKED")


async def test_a_long_list_comes_in_pages(served: Served) -> None:
    """More than one command's worth, written and read whole; damaged entries are left out."""
    names = [f"user:u{n}" for n in range(2500)]
    await block(served, *names)
    redis = served.store._redis
    await redis.hset(keys.BLOCKS, mapping={"user:odd": "soon", "stamp": "next"})
    await until("it is here", lambda: served.gateway.lists._stamp == "next")
    blocked = served.gateway.blocked
    assert blocked is not None
    assert sum(blocked.stops(f"u{n}".encode(), b"", 1) for n in range(2501)) == 2500
    assert not blocked.stops(b"odd", b"", 1)
    assert await redis.ttl(keys.BLOCKS) == -1


# -- memory ----------------------------------------------------------------------------------------


async def test_a_million_members_are_small(served: Served) -> None:
    """1,000,000 ids under 32 MB, while they are read too; looked up in microseconds."""
    made = os.urandom(MILLION * DIGEST_BYTES)
    digests = sorted(made[at : at + DIGEST_BYTES] for at in range(0, len(made), DIGEST_BYTES))
    whole = b"".join(digests)
    chunks = [whole[at : at + CHUNK_BYTES] for at in range(0, len(whole), CHUNK_BYTES)]
    some = digests[:: MILLION // 1000]
    del made, digests, whole
    campaign_id = await served.campaign(audience="segment", segment="vip")
    head = SegmentHead("large", KEY.mark, MILLION, len(chunks))
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    await served.store.put_segment(campaign_id, head, in_parts(chunks))
    lists = served.gateway.lists
    await until("it is here", lambda: campaign_id in lists._segments, 20)
    now, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert now - before < BYTES_MAX * 6 // 10
    assert most - before < BYTES_MAX
    segment = lists._segments[campaign_id]
    assert segment.members == MILLION
    begun = time.perf_counter_ns()
    assert all(segment.has(digest) for digest in some)
    each_us = (time.perf_counter_ns() - begun) / len(some) / 1000
    assert each_us < 200
    print(
        f"{(now - before) / 2**20:.1f} MB, most {(most - before) / 2**20:.1f} MB, {each_us:.1f} µs"
    )
    assert not segment.has(KEY.digest(b"nobody"))
    await served.store.forget_segment(campaign_id)
