"""The lane turns away under overload as the route does, in the same bytes."""

import pytest

from tests.gateway.lane.conversation import same
from tests.gateway.lane.plain import grab
from tests.gateway.lane.sides import Pair

pytestmark = pytest.mark.anyio


async def test_both_ways_turn_away_alike(both: Pair) -> None:
    """With a limit that is reached: 503 BUSY with Retry-After, at once; then it is over."""
    batchers = []
    for side in (both.twin, both.lane):
        campaign = side.served.known("open")
        batcher = side.served.gateway.batcher(campaign)
        batchers.append(batcher)
        batcher.limit = 0
    (heard,) = await same(both, [grab("turned-away")])
    assert heard.answers.startswith(b"HTTP/1.1 503 ")
    assert b'"code":"BUSY"' in heard.answers
    assert b"\r\nretry-after: " in heard.answers
    assert [batcher.shed for batcher in batchers] == [1, 1]
    for batcher in batchers:
        batcher.limit = 20_000
    (heard,) = await same(both, [grab("turned-away")])
    assert heard.answers.startswith(b"HTTP/1.1 201 ")
