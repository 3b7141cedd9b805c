"""Cases: every outcome that a grab can have, and every way to be refused before Redis."""

from tests.gateway.lane.case import Case, Make
from tests.gateway.lane.plain import FROM_THE_SHOP, changed, grab
from tests.gateway.lane.world import PAST_MS, token

OTHER_KEYS = "t9"


def _bearer(value: str) -> Make:
    return lambda user: changed(user, "Authorization", f"Bearer {value}")


def _mended(pass_: str, at: int, letter: str) -> str:
    """A pass with one character changed."""
    return pass_[:at] + letter + pass_[at % len(pass_) + 1 :]


MINE = token("open", "mine")
PASSES = [
    Case("pass of another campaign", _bearer(token("z", "mine")), (403,)),
    Case("expired pass", _bearer(token("open", "mine", "", PAST_MS)), (401,)),
    Case("pass that expires at 0", _bearer(token("open", "mine", "", 0)), (401,)),
    Case("pass with a device", _bearer(token("open", "mine-d", "phone")), (201,)),
    Case("pass of a user with an @", _bearer(token("open", "a@b.example")), (201,)),
    Case("pass of a user of 64", _bearer(token("open", "u" * 64)), (201,)),
    Case("pass of everything at its longest", _bearer(token("open", "v" * 64, "d" * 64)), (201,)),
    Case("empty pass", _bearer(""), (401,)),
    Case("a dot", _bearer("."), (401,)),
    Case("v1.", _bearer("v1."), (401,)),
    Case("slashes", _bearer("v1.t1/////"), (401,)),
    Case("another version", _bearer("v2" + MINE[2:]), (401,)),
    Case("version in capitals", _bearer("V1" + MINE[2:]), (401,)),
    Case("unknown kid", _bearer(MINE.replace("t1", OTHER_KEYS, 1)), (401,)),
    Case("kid in capitals", _bearer(MINE.replace("t1", "T1", 1)), (401,)),
    Case("MAC in capitals", _bearer(MINE[:-32] + MINE[-32:].upper()), (401,)),
    Case("MAC cut", _bearer(MINE[:-1]), (401,)),
    Case("MAC and more", _bearer(MINE + "0"), (401,)),
    Case("no MAC", _bearer(MINE[:-33]), (401,)),
    Case("MAC of another user", _bearer(token("open", "yours")[:-32] + MINE[-32:]), (401,)),
    Case("user changed", _bearer(_mended(MINE, MINE.index("mine"), "w")), (401,)),
    Case("later expiry", _bearer(MINE.replace("41024448", "51024448")), (401,)),
    Case("a pass of 600", _bearer("v1.t1/" + "x" * 600), (401,)),
    Case("a pass of 9000", _bearer("v1.t1/" + "x" * 9000), (401,)),
    Case("a pass with an equals sign", _bearer(MINE + "="), (401,)),
    Case("a pass with a high byte", _bearer(MINE[:-1] + "\xe9"), (401,)),
    Case("a pass with a comma", _bearer(MINE + ",x"), (401,)),
    # its algorithm is "none": it is signed with nothing
    Case(
        "a JWT",
        _bearer("eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1MSJ9."),  # pragma: allowlist secret
        (401,),
    ),
]


def _key(value: str) -> Make:
    return lambda user: changed(user, "Idempotency-Key", value)


KEYS = [
    Case("no key", lambda u: grab(u, key=None), (201,)),
    Case("key of 1", _key("k"), (201,)),
    Case("key of 64", _key("k" * 64), (201,)),
    Case("key of 65", _key("k" * 65), (400,)),
    Case("key of 5000", _key("k" * 5000), (400,)),
    Case("key empty", _key(""), (400,)),
    Case("key of blanks", _key("   "), (400,)),
    Case("key of everything allowed", _key("AZaz09._~-"), (201,)),
    *(
        Case(f"key with {odd!r}", _key(f"a{odd}b"), (400,))
        for odd in (
            " ",
            "\t",
            "!",
            "@",
            "+",
            "/",
            ",",
            ";",
            ":",
            '"',
            "%41",
            "\xe9",
            "*",
            "$",
            "\\",
        )
    ),
    Case("key as a gateway's own", _key("!0123456789abcdef"), (400,)),
    Case("key in quotes", _key('"k"'), (400,)),
    Case("key of a dot", _key("."), (201,)),
]
FOUND = {
    "open": (201,), "three": (201,), "soon": (409,), "between": (409,), "ended": (409,),
    "paused": (409,), "offline": (409,), "sold-out": (409,), "sold-next": (409,),
    "other-run": (503,), "other-schema": (503,), "missing": (503,), "busy": (503,),
    "nobody-knows-this": (404,),
}  # fmt: skip
"""Campaign → what a user who holds nothing is answered."""


def _at(campaign_id: str, user: str = "", key: str | None = "", device: str = "") -> Make:
    return lambda own: grab(user or own, campaign_id, key, device=device)


def _from_the_shop(campaign_id: str) -> Make:
    return lambda user: grab(user, campaign_id, more=FROM_THE_SHOP)


HOLDERS = [name for name in FOUND if name not in ("missing", "nobody-knows-this", "other-run")]
HOLDERS.remove("other-schema")
OUTCOMES = [
    *(Case(f"at {name}", _at(name), found) for name, found in FOUND.items()),
    *(Case(f"at {name} from the shop", _from_the_shop(name), f) for name, f in FOUND.items()),
    *(Case(f"at {name} without a key", _at(name, key=None), f) for name, f in FOUND.items()),
    *(Case(f"{n} replays, persisted", _at(n, "winner", "win"), (200,)) for n in HOLDERS),
    *(Case(f"{n} replays", _at(n, "second", "win"), (200,)) for n in HOLDERS),
    *(Case(f"{n} replays, returned", _at(n, "returner", "back"), (200,)) for n in HOLDERS),
    *(Case(f"{n} to a holder's other key", _at(n, "second", "other")) for n in HOLDERS),
    *(Case(f"{n} to a holder without a key", _at(n, "second", None)) for n in HOLDERS),
    Case("user limit", _at("open", "second", "other"), (409,)),
    Case("user limit, without a key", _at("open", "winner", None), (409,)),
    Case("three of three", _at("three", "second", "a-second"), None),
    Case("a device of his own", lambda u: grab(u, "device", device=u), (201,)),
    Case("somebody else's device", _at("device", device="tablet"), (409,)),
    Case("the same without a key", _at("device", key=None, device="tablet"), (409,)),
    Case("no device", _at("device")),
]
GRABS = [*PASSES, *KEYS, *OUTCOMES]
