"""No byte sequence makes the lane answer what the twin would not.

Requests of the table, cut up, mended with pieces of HTTP's grammar and sent in random parts.
"""

from itertools import count, pairwise
from typing import NamedTuple

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from tests.gateway.asking import ORIGIN
from tests.gateway.lane.bodies import BODIES, ORIGINS
from tests.gateway.lane.case import Case
from tests.gateway.lane.conversation import same
from tests.gateway.lane.heads import HEADS
from tests.gateway.lane.outcomes import GRABS
from tests.gateway.lane.plain import HOST, LIVEZ, REPLAY, grab
from tests.gateway.lane.sides import Pair

pytestmark = pytest.mark.anyio

EXAMPLES = 600
BYTES_MAX = 20_000
PIECES = (
    b"\r\n", b"\n", b"\r", b" ", b"\t", b"\0", b":", b",", b"\xff", b"%41", b"/", b"?", b"0",
    b"\r\n ", b"\r\n\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"HTTP/1.0", b"GET ",
    b"close", b"keep-alive",
    b"Content-Length: 0\r\n", b"Content-Length: 5\r\n", b"content-length: 5000\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"connection: keep-alive\r\n",
    b"Host: b\r\n", b"host:\r\n", b"Authorization: Bearer x\r\n", b"authorization: \r\n",
    b"Idempotency-Key: y\r\n", b"idempotency-key: a b\r\n", b"Expect: 100-continue\r\n",
    b"Upgrade: websocket\r\n", b"Connection: upgrade\r\n", b"X: y\r\n" * 60, b"X: " + b"y" * 3000,
    f"Origin: {ORIGIN}\r\n".encode(), b"Origin: null\r\n", b"origin: \xe4\r\n", b"X: \0\r\n",
    b"POST /v1/campaigns/open/grabs HTTP/1.1\r\n", b"/grabs HTTP/1.1\r\n", b"Cookie: a\r\n",
)  # fmt: skip
PLAIN = [
    Case("browser", grab), Case("bare", lambda u: grab(u, browser=HOST)),
    Case("no key", lambda u: grab(u, key=None)), Case("sold out", lambda u: grab(u, "sold-out")),
    Case("soon", lambda u: grab(u, "soon")), Case("unknown", lambda u: grab(u, "none")),
    Case("from a shop", lambda u: grab(u, more=[("Origin", ORIGIN)])),
]  # fmt: skip
TABLE = [*HEADS, *BODIES, *ORIGINS, *GRABS]


class Change(NamedTuple):
    """Replace `length` bytes at a place (a share of the whole, or a line's beginning)."""

    where: float
    at_line: bool
    length: int
    piece: bytes

    def made(self, data: bytes) -> bytes:
        at = int(self.where * len(data))
        if self.at_line:
            at = data.rfind(b"\r\n", 0, at) + 2 if b"\r\n" in data[:at] else 0
        return data[:at] + self.piece + data[at + self.length :]


places = st.floats(0, 1)
pieces = st.one_of(st.just(b""), st.sampled_from(PIECES), st.binary(max_size=6))
changes = st.builds(Change, places, st.booleans(), st.sampled_from([0, 0, 1, 2, 40]), pieces)
requests = st.lists(
    st.one_of(st.sampled_from(PLAIN), st.sampled_from(PLAIN), st.sampled_from(TABLE)),
    min_size=1,
    max_size=3,
)
users = count()


@given(
    cases=requests,
    changes=st.lists(changes, max_size=4),
    cuts=st.lists(places, max_size=3),
    noise=st.one_of(st.just(b""), st.just(b""), st.binary(max_size=200)),
    after_its_like=st.booleans(),
)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
async def test_nothing_makes_the_lane_answer_otherwise(
    both: Pair, cases: list[Case], changes: list[Change], cuts: list[float], noise: bytes,
    after_its_like: bool,
) -> None:  # fmt: skip
    """The same answers, end and facts on both, for the bytes, a plain grab behind them, a GET;
    also on a connection that knows the unchanged form of the first of them."""
    user = f"p{next(users)}-"
    data = b"".join(case.make(f"{user}{n}") for n, case in enumerate(cases)) + noise
    for change in changes:
        data = change.made(data)
    data = data[:BYTES_MAX]
    edges = sorted({0, len(data), *(int(cut * len(data)) for cut in cuts)})
    before = [[cases[0].make(f"{user}like")]] if after_its_like else []
    await same(both, *before, [data[a:b] for a, b in pairwise(edges)], [REPLAY], [LIVEZ])
