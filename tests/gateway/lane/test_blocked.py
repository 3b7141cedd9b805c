"""Lane and route say the same to who is blocked, and to everybody else while somebody is."""

from functools import partial

import pytest

from gateway.lists import Lists
from tests.gateway.lane.conversation import same
from tests.gateway.lane.plain import FROM_THE_SHOP, REPLAY, grab
from tests.gateway.lane.sides import Pair
from tests.gateway.serving import until

pytestmark = pytest.mark.anyio

BLOCKED = {"user:blocked": 0, "user:winner": 0, "device:stolen": 0, "user:once": 1}
"""`once` was blocked until 1970."""


def _has(lists: Lists, stamp: str) -> bool:
    return lists._stamp == stamp


async def set_blocks(both: Pair, entries: dict[str, int]) -> None:
    """Both gateways have this list."""
    for side in (both.twin, both.lane):
        stamp = f"of {sorted(entries)}"
        await side.served.store.put_blocks(stamp, entries)
        lists = side.served.gateway.lists
        await until("it is here", partial(_has, lists, stamp))


async def test_blocked_ones_are_told_the_same(both: Pair) -> None:
    """At campaigns of every kind, with an origin, pipelined and in pieces; then let in again."""
    await set_blocks(both, BLOCKED)
    for campaign_id in ("open", "sold-out", "paused", "other-run", "missing", "nobody-knows-this"):
        one = grab("blocked", campaign_id)
        heard = await same(both, [one], [one], [one[:90], one[90:]], [one * 3])
        assert [s for h in heard for s in h.statuses] == [403] * 6
    heard = await same(both, [REPLAY], [grab("blocked", more=FROM_THE_SHOP)], [grab("free-1")])
    assert [h.statuses for h in heard] == [[403], [403], [201]]
    stolen = [grab("free-2", "device", device="stolen"), grab("free-3", "device", device="mine")]
    heard = await same(both, *([one] for one in stolen), [grab("once")])
    assert [h.statuses for h in heard] == [[403], [201], [201]]
    assert b'"code":"BLOCKED"' in (await same(both, [grab("blocked")]))[0].answers
    await set_blocks(both, {})
    heard = await same(both, [grab("blocked")], [REPLAY])
    assert [h.statuses for h in heard] == [[201], [200]]
