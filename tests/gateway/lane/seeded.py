"""Cases made by a seeded generator: plain grabs with several things changed at once."""

import random

from tests.gateway.asking import ORIGIN
from tests.gateway.lane.case import Case
from tests.gateway.lane.outcomes import FOUND
from tests.gateway.lane.plain import BROWSER, of_a_grab, raw

COUNT = 120
SEED = 4
EXTRA = (
    ("Cookie", "a=b; c=d"), ("X-Forwarded-For", "10.0.0.1"), ("DNT", "1"), ("Origin", ORIGIN),
    ("Origin", "https://evil.example"), ("Pragma", "no-cache"), ("X-Authorization", "Bearer x"),
    ("Content-Type", "application/json"), ("Connection", "close"), ("Content-Length", "0"),
    ("Connection", "keep-alive"), ("Expect", "100-continue"), ("Transfer-Encoding", "chunked"),
    ("Host", "other.example"), ("Idempotency-Key", "another"), ("Authorization", "Bearer y"),
    ("Upgrade", "websocket"), ("Priority", "u=1, i"), ("X-Long", "y" * 300),
)  # fmt: skip
MOST_OFTEN_PLAIN = ("POST",) * 12 + ("GET", "HEAD", "OPTIONS", "PUT")


def _any_case(name: str, chance: random.Random) -> str:
    how = chance.choice((str.lower, str.upper, str.title, str, str, str.swapcase))
    return how(name)


def _one(number: int) -> Case:
    def make(user: str) -> bytes:
        chance = random.Random(SEED * 1000 + number)
        campaign_id = chance.choice([*FOUND, *["open"] * 10])
        own = of_a_grab(user, campaign_id, chance.choice(("", "", "", None, "k", "a b")))
        headers = [
            *chance.sample(BROWSER[1:], chance.randrange(12)),
            *chance.sample(EXTRA, chance.choice((0, 0, 1, 1, 2, 3))),
            *own[: chance.choice((2, 2, 2, 2, 2, 1))],
        ]
        if chance.random() < 0.95:
            headers.append(BROWSER[0])
        chance.shuffle(headers)
        blanks = ("", "", "", " ", "\t", "  ")
        written = [
            (_any_case(n, chance), chance.choice(blanks) + v + chance.choice(blanks))
            for n, v in headers
        ]
        target = f"/v1/campaigns/{campaign_id}/grabs" + chance.choice(("",) * 8 + ("?a=b", "/"))
        version = chance.choice(("HTTP/1.1",) * 9 + ("HTTP/1.0",))
        body = chance.choice((b"",) * 9 + (b"0\r\n\r\n",))
        return raw(chance.choice(MOST_OFTEN_PLAIN), target, written, version, body)

    return Case(f"seeded {number}", make)


SEEDED = [_one(number) for number in range(COUNT)]
