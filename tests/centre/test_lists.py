"""Segments and the blocklist from the centre's HTTP to Redis and to a gateway."""

import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from flashgrab.segments import SegmentKey
from flashgrab.store import Store
from tests.centre.serving import SEGMENT_KEY, Served, Servers, emptied, operation, ready, serving
from tests.gateway.asking import ask_pass, assert_problem, identity
from tests.gateway.serving import Served as Gateway
from tests.gateway.serving import serving as gateway_serving
from tests.gateway.serving import until

pytestmark = pytest.mark.anyio

VIP: dict[str, Any] = {"audience": "segment", "segment": "vip"}
AT_GATEWAYS_S = 1.0
BUSY_S = 1.0
"""More for a busy machine."""


@pytest.fixture(scope="module")
async def gateway(served: Served, migrated: Servers) -> AsyncIterator[Gateway]:
    """A gateway beside the module's centre."""
    async with gateway_serving(migrated.redis_url) as running:
        yield running


async def load(
    served: Served, campaign_id: str, users: bytes, key: str = "", media: str = "text/plain"
) -> httpx2.Response:
    headers = {"idempotency-key": key or operation(), "content-type": media}
    path = f"/v1/campaigns/{campaign_id}/segment"
    return await served.http.put(path, content=users, headers=headers)


async def block(served: Served, kind: str, subject: str, **more: str) -> httpx2.Response:
    body = {"kind": kind, "subject": subject, "why": "a bot", **more}
    return await served.post("/v1/blocks", body)


async def remove(served: Served, kind: str, subject: str) -> dict[str, Any]:
    answer = await served.post("/v1/blocks/remove", {"kind": kind, "subject": subject})
    assert answer.status_code == 200
    done: dict[str, Any] = answer.json()
    return done


async def listed(served: Served) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await served.http.get("/v1/blocks")).json()["blocks"]
    return found


# -- segments --------------------------------------------------------------------------------------


async def test_a_list_is_loaded_once(served: Served) -> None:
    """Digests in ledger and Redis, no id; the same list again changes nothing, another one does."""
    campaign_id = await served.created(publish=True, **VIP)
    users, key = b"anna\nbert\n", operation()
    first = (await load(served, campaign_id, users, key)).json()
    told = {"segment": "vip", "members": 2, "applied": True, "repeated": False, "there": False}
    assert {name: first[name] for name in told} == told
    stored = await served.centre.store.segment(campaign_id)
    assert stored is not None
    assert (stored.stamp, stored.members, stored.chunks) == (first["stamp"], 2, 1)
    chunks = await served.centre.store.segment_chunks(campaign_id, stored)
    digest = SegmentKey.parse(SEGMENT_KEY).digest
    assert chunks == [b"".join(sorted((digest(b"anna"), digest(b"bert"))))]

    again = (await load(served, campaign_id, users, key)).json()
    assert (again["repeated"], again["stamp"]) == (True, first["stamp"])
    same = (await load(served, campaign_id, b"bert\nanna\n\n")).json()
    assert (same["there"], same["stamp"]) == (True, first["stamp"])
    other = (await load(served, campaign_id, b"carl\n")).json()
    assert (other["members"], other["applied"]) == (1, True)
    shown = (await served.http.get(f"/v1/campaigns/{campaign_id}/segment")).json()
    assert (shown["members"], shown["stamp"]) == (1, other["stamp"])


async def test_what_is_refused_says_why(served: Served) -> None:
    """A line that is no id, an empty list, a campaign for all, none at all, other media; the list
    that was there stays."""
    campaign_id = await served.created(publish=True, **VIP)
    kept = (await load(served, campaign_id, b"anna\n")).json()["stamp"]
    wrong = await load(served, campaign_id, b"anna\nb ert\n")
    detail = assert_problem(wrong, 422, "SEGMENT_INVALID")["detail"]
    assert detail.startswith("line 2: expected a user id")
    assert_problem(await load(served, campaign_id, b"\n"), 422, "SEGMENT_INVALID")
    unfit = await load(served, campaign_id, b"a", media="application/json")
    assert_problem(unfit, 415, "MEDIA_TYPE_UNKNOWN")
    assert_problem(await load(served, "nobody", b"a"), 404, "CAMPAIGN_NOT_FOUND")
    for_all = await served.created()
    assert_problem(await load(served, for_all, b"a"), 409, "STATUS_CONFLICT")
    shown = (await served.http.get(f"/v1/campaigns/{campaign_id}/segment")).json()
    assert shown["stamp"] == kept


async def test_a_list_may_come_before_the_campaign_is_published(
    served: Served, gateway: Gateway
) -> None:
    """A DRAFT's list is in Redis already; the gateway lets its members in from the first moment,
    and a closed campaign's list goes."""
    campaign_id = await served.created(**VIP)
    assert (await load(served, campaign_id, b"anna\n")).json()["applied"]
    await served.post(f"/v1/campaigns/{campaign_id}/publish")

    async def lets_in() -> bool:
        return (await ask_pass(gateway, campaign_id, **identity("anna"))).status_code == 201

    await until("anna is let in", lets_in, AT_GATEWAYS_S + BUSY_S)
    refused = await ask_pass(gateway, campaign_id, **identity("bert"))
    assert_problem(refused, 403, "NOT_IN_AUDIENCE")
    await served.post(f"/v1/campaigns/{campaign_id}/close")

    async def is_gone() -> bool:
        return await served.centre.store.segment(campaign_id) is None

    await until("its list is gone", is_gone)
    assert_problem(await load(served, campaign_id, b"a"), 409, "STATUS_CONFLICT")


# -- the blocklist ---------------------------------------------------------------------------------


async def test_a_block_reaches_a_gateway(served: Served, gateway: Gateway) -> None:
    """Within a second of the answer a pass of before is refused, and after removal it grabs."""
    campaign_id = await served.created(publish=True)
    await until("it is known", lambda: gateway.gateway.catalogue.get(campaign_id) is not None)
    done = (await block(served, "user", "anna", by="me")).json()
    assert (done["applied"], done["until"], done["by"]) == (True, None, "me")
    told = time.monotonic()
    await until("it is here", lambda: gateway.gateway.blocked is not None)
    assert time.monotonic() - told < AT_GATEWAYS_S + BUSY_S
    assert_problem(await gateway.grab(campaign_id, "anna"), 403, "BLOCKED")
    refused = await ask_pass(gateway, campaign_id, **identity("anna"))
    assert_problem(refused, 403, "BLOCKED")
    assert [b["subject"] for b in await listed(served)] == ["anna"]
    assert (await remove(served, "user", "anna"))["removed"] is True
    assert (await remove(served, "user", "anna"))["removed"] is False
    await until("it is off", lambda: gateway.gateway.blocked is None)
    assert (await gateway.grab(campaign_id, "anna")).status_code == 201


async def test_a_block_is_changed_and_ends(served: Served) -> None:
    """Again with another reason changes it; what is over is not listed; networks have one form."""
    await block(served, "address", "2001:DB8::/48", until="2999-01-01T00:00:00Z")
    assert_problem(
        await block(served, "address", "2001:db8::/48", until="2000-01-01T00:00:00Z"),
        400,
        "INVALID_REQUEST",
    )
    again = await block(served, "address", "2001:db8:0::/48", until="2098-01-01T00:00:00+01:00")
    assert again.json()["subject"] == "2001:db8::/48"
    assert [b["until"] for b in await listed(served)] == [again.json()["until"]]
    assert again.json()["until"].startswith("2097-12-31T23:00")
    await remove(served, "address", "2001:db8::/48")
    assert await listed(served) == []


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "shop", "subject": "a", "why": "x"},
        {"kind": "user", "subject": "a b", "why": "x"},
        {"kind": "address", "subject": "0.0.0.0/0", "why": "x"},
        {"kind": "user", "subject": "a", "why": ""},
        {"kind": "user", "subject": "a", "why": "two\nlines"},
        {"kind": "user", "subject": "a", "why": "x", "until": "tomorrow"},
        {"kind": "user", "subject": "a"},
        {"kind": "user", "subject": "a", "why": "x", "odd": 1},
    ],
)
async def test_an_odd_block_is_refused(served: Served, body: dict[str, Any]) -> None:
    """400 naming the field; nothing is blocked."""
    answer = await served.post("/v1/blocks", body)
    assert_problem(answer, 400, "INVALID_REQUEST")
    assert await listed(served) == []


async def test_the_list_is_bounded_and_comes_in_pages(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past the bound 409 and nothing changes; pages go by kind and subject."""
    monkeypatch.setattr("flashgrab.ledger.blocks.BLOCKS_MAX", 3)
    for subject in ("b", "a", "c"):
        assert (await block(served, "user", subject)).status_code == 200
    assert_problem(await block(served, "device", "d"), 409, "BLOCKLIST_FULL")
    assert (await block(served, "user", "b")).status_code == 200
    page = (await served.http.get("/v1/blocks", params={"limit": 2})).json()
    assert ([b["subject"] for b in page["blocks"]], page["next"]) == (["a", "b"], "user:b")
    rest = (await served.http.get("/v1/blocks", params={"after": "user:b"})).json()
    assert ([b["subject"] for b in rest["blocks"]], rest["next"]) == (["c"], None)
    for subject in ("a", "b", "c"):
        await remove(served, "user", subject)


# -- losses ----------------------------------------------------------------------------------------


async def test_redis_gets_both_again(served: Served, gateway: Gateway, migrated: Servers) -> None:
    """Redis loses all its data: both lists are there again by the centre's loop, and a gateway
    that begins then has them."""
    campaign_id = await served.created(publish=True, **VIP)
    await load(served, campaign_id, b"anna\n")
    await block(served, "user", "eve")
    store = served.centre.store
    before = await store.list_stamps([campaign_id])
    await store._redis.flushall()

    async def is_back() -> bool:
        return await store.list_stamps([campaign_id]) == before

    await until("both are there again", is_back)
    assert gateway.gateway.blocked is not None  # which it never forgot
    async with gateway_serving(migrated.redis_url) as later:
        assert later.gateway.blocked is not None
        assert later.gateway.blocked.stops(b"eve", b"", 1)
    await remove(served, "user", "eve")


async def test_a_restart_of_everything_keeps_the_block(servers: Servers) -> None:
    """Centre and gateway stop, Redis is empty: the next ones have the list of the ledger."""
    async with serving(servers) as first:
        await ready(first)
        await block(first, "device", "phone")
    async with Store(servers.redis_url) as store:
        await store._redis.flushall()
    async with serving(servers) as second, gateway_serving(servers.redis_url) as gateway:
        await ready(second)
        await until("it is here", lambda: gateway.gateway.blocked is not None)
        assert [b["subject"] for b in await listed(second)] == ["phone"]
    await emptied(servers)
