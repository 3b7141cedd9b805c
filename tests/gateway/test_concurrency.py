"""Many at once: never too many grants, never two for one key, never another user's answer."""

import asyncio
from collections import Counter, defaultdict

import pytest

from gateway.decisions import read_grants
from tests.gateway.crowd import Sent, crowd
from tests.gateway.serving import Served
from tests.gateway.wires import HeldWire

pytestmark = pytest.mark.anyio

USERS = 500
DUPLICATES = 20


async def test_one_coupon_for_64_at_once(served: Served) -> None:
    """64 concurrent requests on quota 1: exactly one 201, all others SOLD_OUT, one fact."""
    campaign_id = await served.campaign(quota=1)
    requests = [Sent(campaign_id, served.token(campaign_id, f"u{n}"), "k") for n in range(64)]
    answers = await crowd(served.port, requests, 64)
    assert Counter(a.status for a in answers) == {201: 1, 409: 63}
    assert {a.body["code"] for a in answers if a.status == 409} == {"SOLD_OUT"}
    winner = next(n for n, a in enumerate(answers) if a.status == 201)
    assert [fact[:3] for fact in await served.facts(campaign_id)] == [(f"u{winner}", 1, "k")]


async def test_duplicates_of_500_users_give_one_coupon_each(served: Served) -> None:
    """500 users send 20 requests with one key at once: one 201 each, 19 times the same again."""
    campaign_id = await served.campaign(quota=2 * USERS, per_user=3)
    tokens = [served.token(campaign_id, f"u{n}") for n in range(USERS)]
    requests = [Sent(campaign_id, token, "mine") for token in tokens for _ in range(DUPLICATES)]
    answers = await crowd(served.port, requests, 100)

    by_user = [answers[n : n + DUPLICATES] for n in range(0, len(answers), DUPLICATES)]
    assert len(by_user) == USERS
    for mine in by_user:
        assert Counter(a.status for a in mine) == {201: 1, 200: DUPLICATES - 1}
        assert len({a.body["grab_id"] for a in mine}) == 1
        assert all(("replayed" in a.body) == (a.status == 200) for a in mine)
    facts = await served.facts(campaign_id)
    assert sorted(serial for _, serial, _, _ in facts) == list(range(1, USERS + 1))
    assert len({user for user, *_ in facts}) == USERS


async def test_three_keys_give_three_coupons(served: Served) -> None:
    """per_user 3: three keys win at once, a fourth is refused with all three, each key replays."""
    campaign_id = await served.campaign(quota=10, per_user=3)
    wins = await asyncio.gather(*(served.grab(campaign_id, key=f"k{n}") for n in range(3)))
    assert [w.status_code for w in wins] == [201, 201, 201]
    named = {w.json()["grab_id"] for w in wins}
    assert len(named) == 3

    fourth = await served.grab(campaign_id, key="k3")
    assert (fourth.status_code, fourth.json()["code"]) == (409, "USER_LIMIT")
    assert set(fourth.json()["grab_ids"]) == named
    for n, win in enumerate(wins):
        again = await served.grab(campaign_id, key=f"k{n}")
        assert (again.status_code, again.json()) == (200, {**win.json(), "replayed": True})


async def test_a_repeat_without_a_key_is_told_what_the_user_holds(served: Served) -> None:
    """Without a key each request is another one: the second names the grab of the first."""
    campaign_id = await served.campaign()
    first = await served.grab(campaign_id)
    second = await served.grab(campaign_id)
    assert (second.status_code, second.json()["code"]) == (409, "USER_LIMIT")
    assert second.json()["grab_ids"] == [first.json()["grab_id"]]


async def test_campaigns_do_not_wait_for_each_other(served: Served) -> None:
    """While the call of one campaign is stuck, 200 grabs of another are answered."""
    stuck, free = await served.campaign(), await served.campaign(quota=200)
    wire = HeldWire(served.gateway.wire)
    batcher = served.through(wire, stuck)
    waiting = asyncio.create_task(served.grab(stuck))
    requests = [Sent(free, served.token(free, f"u{n}")) for n in range(200)]
    answers = await crowd(served.port, requests, 50)
    assert {a.status for a in answers} == {201}
    assert not waiting.done()
    assert batcher.requests == 1
    wire.release.set()
    assert (await waiting).status_code == 201


async def test_no_reply_crosses_users(served: Served) -> None:
    """What each of 600 users in three campaigns is told is what Redis holds for him."""
    campaigns = [await served.campaign(quota=100, per_user=2) for _ in range(3)]
    who = [(campaigns[n % 3], f"user-{n}", f"key-{n}") for n in range(600)]
    requests = [Sent(c, served.token(c, user), key) for c, user, key in who]
    answers = await crowd(served.port, requests, 150)
    again = await crowd(served.port, requests, 40)

    users: dict[str, list[int]] = defaultdict(list)
    for index, (campaign_id, _, _) in enumerate(who):
        users[campaign_id].append(index)
    for campaign_id, indexes in users.items():
        entries = await served.store.holders_of(campaign_id, [who[i][1] for i in indexes])
        assert sum(1 for entry in entries if entry) == 100
        for index, entry in zip(indexes, entries, strict=True):
            grants = read_grants(entry)
            if not grants:
                assert answers[index].body["code"] == again[index].body["code"] == "SOLD_OUT"
                continue
            (grant,) = grants
            assert grant.request_id == who[index][2]
            assert answers[index].status == 201
            assert answers[index].body["grab_id"] == f"{campaign_id}-{grant.serial}"
            assert again[index].body == {**answers[index].body, "replayed": True}
