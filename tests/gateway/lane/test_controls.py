"""The comparison sees a difference: a lane made wrong on purpose fails it."""

from typing import ClassVar

import pytest

from gateway.hardened import Hardened
from gateway.lane import Lane
from tests.gateway.lane.conversation import same
from tests.gateway.lane.plain import HOST, LIVEZ, grab, of_a_grab, raw
from tests.gateway.lane.sides import pair
from tests.lua.server import Valkey

pytestmark = pytest.mark.anyio


class Deaf(Lane):
    """A lane that reads something else than what was sent."""

    INSTEAD: ClassVar[tuple[bytes, bytes]]

    def data_received(self, data: bytes) -> None:
        super().data_received(data.replace(*self.INSTEAD))


CLOSE = raw(headers=[*HOST, ("Connection", "close"), *of_a_grab("one")])
WRONG: dict[str, tuple[tuple[bytes, bytes], bytes]] = {
    "another answer": ((b"campaigns/soon", b"campaigns/open"), grab("one", "soon")),
    "not closed": ((b"Connection: close", b"Connection: other"), CLOSE),
    "another fact": ((b"key-one", b"key-two"), grab("one")),
    "an answer too few": ((LIVEZ, b""), grab("one") + LIVEZ),
    "another order": ((grab("one") + LIVEZ, LIVEZ + grab("one")), grab("one") + LIVEZ),
}


@pytest.mark.parametrize("what", WRONG)
async def test_a_difference_is_seen(two_servers: tuple[Valkey, Valkey], what: str) -> None:
    """Each kind of difference fails the comparison; without it the same request passes."""
    instead, data = WRONG[what]
    deaf: type[Hardened] = type("Deaf", (Deaf,), {"INSTEAD": instead})
    async with pair(two_servers, lane=deaf) as both:
        with pytest.raises(AssertionError):
            await same(both, [data])
    async with pair(two_servers) as both:
        await same(both, [data])
