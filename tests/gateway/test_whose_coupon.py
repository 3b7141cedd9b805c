"""A thousand users at once with shuffled passes: no one ever sees or spends another's (I9)."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import pytest

from gateway.decisions import read_grants
from tests.gateway.crowd import Got, Sent, crowd, read_answer
from tests.gateway.serving import Served, serving
from tests.lua.server import Valkey

pytestmark = pytest.mark.anyio

USERS = 1000
COUPONS = 800
CONNECTIONS = 250
DEADLINE_MS = 10_000


def show_bytes(grab_id: str, token: str) -> bytes:
    """GET /v1/grabs/{grab_id} with this pass."""
    return (
        f"GET /v1/grabs/{grab_id} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\n\r\n"
    ).encode()


async def shown(port: int, asked: Sequence[tuple[str, str]], connections: int) -> list[Got]:
    """What is said of (grab id, pass), neighbours on different connections, in their order."""
    answers: dict[int, Got] = {}

    async def one(first: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            for index in range(first, len(asked), connections):
                writer.write(show_bytes(*asked[index]))
                answers[index] = await read_answer(reader)
        finally:
            writer.close()
            await writer.wait_closed()

    await asyncio.gather(*(one(n) for n in range(connections)))
    return [answers[index] for index in range(len(asked))]


@pytest.fixture(scope="module")
async def served(redis_server: Valkey, anyio_backend: str) -> AsyncIterator[Served]:
    """Whose a coupon is hangs on no deadline: the longest that there is, for a busy machine."""
    async with serving(redis_server.url, request_deadline_ms=DEADLINE_MS) as gateway:
        yield gateway


async def test_no_one_sees_or_spends_anothers(served: Served) -> None:
    """All use the same key, on connections that change hands with every request, each twice.

    What a user is told is what Redis holds for him; each coupon has one owner, who is shown it,
    and nobody else is, whether he asks for a winner's or guesses.
    """
    seed = random.SystemRandom().randrange(10**9)
    rng = random.Random(seed)
    campaign_id = await served.campaign(quota=COUPONS)
    tokens = [served.token(campaign_id, f"user-{n}@shop") for n in range(USERS)]
    order = [user for user in range(USERS) for _ in (1, 2)]
    rng.shuffle(order)
    answers = await crowd(
        served.port, [Sent(campaign_id, tokens[user], "same-key") for user in order], CONNECTIONS
    )

    told: dict[int, list[Got]] = {user: [] for user in range(USERS)}
    for user, answer in zip(order, answers, strict=True):
        told[user].append(answer)
    entries = await served.store.holders_of(campaign_id, [f"user-{n}@shop" for n in range(USERS)])
    mine: dict[int, str] = {}
    for user, entry in enumerate(entries):
        statuses = sorted(answer.status for answer in told[user])
        grants = read_grants(entry)
        if not grants:
            assert [a.body["code"] for a in told[user]] == ["SOLD_OUT", "SOLD_OUT"], seed
            continue
        (grant,) = grants
        mine[user] = f"{campaign_id}-{grant.serial}"
        assert statuses == [200, 201], (seed, user)
        assert {a.body["grab_id"] for a in told[user]} == {mine[user]}, (seed, user)
    assert len(mine) == len(set(mine.values())) == COUPONS
    facts = {user: serial for user, serial, _, _ in await served.facts(campaign_id)}
    assert facts == {f"user-{u}@shop": int(g.rpartition("-")[2]) for u, g in mine.items()}

    everyone = list(mine.values())
    asked = [(user, mine[user]) for user in mine]
    asked += [(user, rng.choice(everyone)) for user in range(USERS)]
    asked += [(user, f"{campaign_id}-{COUPONS + 1}") for user in range(0, USERS, 50)]
    rng.shuffle(asked)
    seen = await shown(served.port, [(grab, tokens[user]) for user, grab in asked], CONNECTIONS)
    for (user, grab), answer in zip(asked, seen, strict=True):
        if mine.get(user) == grab:
            assert (answer.status, answer.body["grab_id"]) == (200, grab), (seed, user)
        else:
            assert (answer.status, answer.body["code"]) == (404, "GRAB_NOT_FOUND"), (seed, user)
    assert Counter(a.status for a in seen)[200] >= COUPONS


async def test_anothers_key_finds_nothing(served: Served) -> None:
    """A pass with the key that another user won with is a grab of its own; a pass of another
    campaign neither spends nor sees."""
    campaign_id, other = await served.campaign(quota=5), await served.campaign(quota=5)
    won = await served.grab(campaign_id, "anna", key="annas-key")
    again = await served.grab(campaign_id, "bert", key="annas-key")
    assert won.status_code == again.status_code == 201
    assert won.json()["grab_id"] != again.json()["grab_id"]
    of_other = served.token(other, "anna")
    seen = await shown(served.port, [(won.json()["grab_id"], of_other)], 1)
    assert (seen[0].status, seen[0].body["code"]) == (404, "GRAB_NOT_FOUND")
    (spent,) = await crowd(served.port, [Sent(campaign_id, of_other, "annas-key")], 1)
    assert (spent.status, spent.body["code"]) == (403, "PASS_OTHER_CAMPAIGN")
