"""The lane answers as the readable twin does: a table of raw requests, byte for byte.

Each request goes whole, in pieces and pipelined to two gateways with equal worlds; the answers,
whether the connection closes, and the facts in Redis must be the same.
"""

import random
from collections.abc import Callable
from itertools import pairwise

import pytest

from gateway.plain import Cut, cut
from tests.gateway.lane.bodies import BODIES, ORIGINS
from tests.gateway.lane.case import Case
from tests.gateway.lane.conversation import same
from tests.gateway.lane.heads import HEADS
from tests.gateway.lane.outcomes import GRABS
from tests.gateway.lane.plain import HOST, LIVEZ, REPLAY, grab, of_a_grab, raw
from tests.gateway.lane.seeded import SEEDED
from tests.gateway.lane.sides import Pair, ShiftedClock

pytestmark = pytest.mark.anyio

TABLE = [*HEADS, *BODIES, *ORIGINS, *GRABS, *SEEDED]
TABLE_MIN = 300
EACH_BYTE = ("order 3", "leading CRLF", "length 5", "chunked, empty", "preflight", "no host",
             "connection close", "at sold-out", "a body that is a request")  # fmt: skip

each = pytest.mark.parametrize("case", TABLE, ids=lambda c: c.name.replace("[", "("))


def _pieces(data: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted(at), len(data)]
    return [data[a:b] for a, b in pairwise(edges) if a < b]


def _user(case: Case, variant: str) -> str:
    """A user of this case and variant alone."""
    return f"{variant}{TABLE.index(case)}"


def test_the_table_is_large() -> None:
    """At least 300 requests, no two with one name, no two the same."""
    assert len({case.name for case in TABLE}) == len(TABLE)
    assert len({case.make("u") for case in TABLE}) >= TABLE_MIN


@each
async def test_whole(both: Pair, case: Case) -> None:
    """In one piece; then, where the connection lives, the like of another user, a plain repeat,
    the like once more, and another address."""
    like = [[case.make(_user(case, variant))] for variant in ("w", "v", "u")]
    heard = await same(both, like[0], like[1], [REPLAY], like[2], [LIVEZ])
    if case.statuses is not None:
        assert tuple(s for s in heard[0].statuses if s != 100) == case.statuses


@each
async def test_in_pieces(both: Pair, case: Case) -> None:
    """In two to five pieces cut at random places, the last one with the next request in it."""
    data = case.make(_user(case, "p")) + REPLAY
    chance = random.Random(case.name)
    at = [chance.randrange(len(data)) for _ in range(chance.randrange(1, 5))]
    await same(both, _pieces(data, at), [LIVEZ])


@each
async def test_pipelined(both: Pair, case: Case) -> None:
    """With others in one write: behind a grab and in front of one, two and three of it."""
    made = [case.make(_user(case, f"f{n}-")) for n in range(3)]
    others = [grab(_user(case, f"o{n}-")) for n in range(2)]
    await same(both, [others[0] + made[0] + others[1] + LIVEZ], [REPLAY])
    await same(both, [made[1] * 2])
    await same(both, [made[2] * 3], [REPLAY])


@pytest.mark.parametrize("case", [c for c in TABLE if c.name in EACH_BYTE], ids=lambda c: c.name)
async def test_byte_by_byte(both: Pair, case: Case) -> None:
    """Every byte comes alone."""
    data = case.make(_user(case, "b"))
    await same(both, [data[n : n + 1] for n in range(len(data))], [REPLAY])


async def test_split_at_every_byte(both: Pair) -> None:
    """A grab and its successor in two pieces, cut at each place there is."""
    length = len(grab("cut-000", browser=HOST))
    for at in range(1, length + 4):
        data = grab(f"cut-{at:03}", browser=HOST) + REPLAY
        heard = await same(both, [data[:at], data[at:]])
        assert heard[0].statuses == [201, 200]


async def test_a_grab_like_the_last_one_is_not_cut_up(
    both: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table meets the frame of a head: after a plain grab its like is answered without a look
    at the rest of its head, whatever the campaign says; what has no key, another key's name or
    another campaign is cut anew."""
    cuts: list[bytes] = []

    def counted(data: bytes) -> Cut | None:
        cuts.append(data)
        return cut(data)

    monkeypatch.setattr("gateway.lane.cut", counted)
    for campaign_id in ("open", "sold-out"):
        like = [[grab(f"like-{campaign_id}-{n}", campaign_id)] for n in range(3)]
        await same(both, *like)
        assert cuts == like[0]
        cuts.clear()
    swapped = [raw(headers=[*HOST, *of_a_grab(f"key-first-{n}")[::-1]]) for n in range(3)]
    await same(both, *([one] for one in swapped))
    assert cuts == swapped[:1]
    cuts.clear()
    again = [[grab("key-a")], [grab("key-b", key=None)], [grab("key-c", key=None)]]
    await same(both, *again, [grab("key-c")])
    assert len(cuts) == 3


async def test_answers_come_in_order(both: Pair) -> None:
    """Twenty requests of all kinds in one write: each answer is that of its own request."""
    users = [f"order-{n}" for n in range(10)]
    data = b"".join(grab(u) + raw("GET", f"/v1/campaigns/none-{u}") for u in users)
    heard = await same(both, [data + grab(users[0])])
    assert heard[0].statuses == [201, 404] * 10 + [200]
    serials = [int(s) for s in _serials(heard[0].answers)]
    assert serials[:-1] == sorted(set(serials))
    assert serials[-1] == serials[0]


def _serials(answers: bytes) -> list[bytes]:
    return [part.partition(b",")[0] for part in answers.split(b'"serial":')[1:]]


@pytest.mark.parametrize("make", [grab, lambda u: grab(u, "soon"), lambda u: grab(u, "none")])
async def test_a_wrong_clock(both: Pair, clock: ShiftedClock, make: Callable[[str], bytes]) -> None:
    """Where the two clocks differ both refuse with 503, whatever the pass says."""
    clock.shift_ms = 60_000
    try:
        heard = await same(both, [make("clock")], [grab("clock", key="a b")])
    finally:
        clock.shift_ms = 0
    assert [h.statuses for h in heard] == [[503], [400]]
