"""Passes that nobody signed: every field, encoding, splice and key confusion, from one seed.

An attempt is a token and the campaign that it is shown at. It is none where it happens to be a
pass that was signed for that campaign and is valid: those are drawn again.
"""

import random
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2s
from hmac import digest as hmac_digest
from typing import NamedTuple
from urllib.parse import quote

from flashgrab.passes import Pass, PassKeys

USERS_PER_CAMPAIGN = 24
VALID_MS = 3_600_000
SECOND_MS = 1000
LONG_BYTES = (513, 4096, 20_000, 100_000)
MAC_HEX = 32
_FIELDS = ("start", "campaign", "user", "device", "expires", "mac")


class Attempt(NamedTuple):
    """One forged, changed, late or misused pass, and the campaign whose coupon it asks for."""

    kind: str
    token: bytes
    campaign_id: str


@dataclass
class World:
    """Keys, campaigns, and passes that were really issued, which an attacker may hold."""

    keys: PassKeys
    campaigns: Sequence[str]
    now_ms: int
    rng: random.Random
    passes: list[tuple[bytes, str]] = field(init=False)
    genuine: frozenset[tuple[bytes, str]] = field(init=False)
    strange: list[PassKeys] = field(init=False)

    def __post_init__(self) -> None:
        kids = list(self.keys.keys)
        self.passes = [
            (self.sign(kid, campaign, f"{user}{n}", device), campaign)
            for campaign in self.campaigns
            for n in range(USERS_PER_CAMPAIGN // 2)
            for kid in kids
            for user, device in ((f"user@{kid}.", f"phone.{n}"), (f"u-{kid}-", ""))
        ]
        self.genuine = frozenset(self.passes)
        # Keys of somebody else under our names, and ours under each other's.
        self.strange = [PassKeys.parse(",".join(f"{kid}:{'evil' * 10}{kid}" for kid in kids))]
        turned = dict(zip(kids, [self.keys.keys[kid] for kid in (*kids[1:], kids[0])], strict=True))
        if len(kids) > 1:
            self.strange.append(PassKeys(turned))
        self.strange.append(PassKeys({"zz": next(iter(self.keys.keys.values()))}))

    def sign(
        self, kid: str, campaign: str, user: str, device: str, valid_ms: int = VALID_MS
    ) -> bytes:
        """A pass that is really signed, by the key of this kid."""
        by_kid = PassKeys({kid: self.keys.keys[kid]})
        return by_kid.sign(Pass(campaign, user, device, self.now_ms + valid_ms)).encode()

    def pick(self) -> tuple[bytes, str]:
        """One of the passes that were issued."""
        return self.rng.choice(self.passes)

    def parts(self) -> tuple[list[bytes], str]:
        """Its fields, by number of _FIELDS."""
        token, campaign = self.pick()
        return token.split(b"/"), campaign


Mutation = Callable[[World], tuple[bytes, str]]


def _some_bytes(rng: random.Random, length: int) -> bytes:
    return rng.randbytes(length)


# -- bytes -----------------------------------------------------------------------------------------


def flipped_bit(world: World) -> tuple[bytes, str]:
    token, campaign = world.pick()
    at = world.rng.randrange(len(token))
    return token[:at] + bytes([token[at] ^ 1 << world.rng.randrange(8)]) + token[at + 1 :], campaign


def other_byte(world: World) -> tuple[bytes, str]:
    token, campaign = world.pick()
    at = world.rng.randrange(len(token))
    return token[:at] + _some_bytes(world.rng, 1) + token[at + 1 :], campaign


def inserted(world: World) -> tuple[bytes, str]:
    token, campaign = world.pick()
    at = world.rng.randrange(len(token) + 1)
    what = world.rng.choice(
        (b"/", b" ", b"\0", b"0", b"+", b"@", b"\r\n", b"%00", b".", b"\xc2\xa0")
    )
    return token[:at] + what + token[at:], campaign


def deleted(world: World) -> tuple[bytes, str]:
    token, campaign = world.pick()
    at = world.rng.randrange(len(token))
    return token[:at] + token[at + world.rng.randint(1, 8) :], campaign


def truncated(world: World) -> tuple[bytes, str]:
    token, campaign = world.pick()
    at = world.rng.randrange(len(token))
    return (token[:at] if world.rng.random() < 0.5 else token[at + 1 :]), campaign


def doubled_span(world: World) -> tuple[bytes, str]:
    token, campaign = world.pick()
    at, length = world.rng.randrange(len(token)), world.rng.randint(1, 40)
    return token[: at + length] + token[at:], campaign


def two_swapped(world: World) -> tuple[bytes, str]:
    token, campaign = world.pick()
    at = world.rng.randrange(len(token) - 1)
    return token[:at] + token[at + 1 : at + 2] + token[at : at + 1] + token[at + 2 :], campaign


def noise(world: World) -> tuple[bytes, str]:
    fields = [_some_bytes(world.rng, world.rng.randrange(20)) for _ in range(6)]
    fields[0] = world.rng.choice((b"v1." + next(iter(world.keys.keys)).encode(), fields[0]))
    return b"/".join(fields), world.rng.choice(world.campaigns)


# -- fields ----------------------------------------------------------------------------------------


def other_campaign(world: World) -> tuple[bytes, str]:
    """The campaign of the pass rewritten to the one it is shown at."""
    parts, _ = world.parts()
    campaign = world.rng.choice(world.campaigns)
    parts[1] = campaign.encode()
    return b"/".join(parts), campaign


def other_user(world: World) -> tuple[bytes, str]:
    parts, campaign = world.parts()
    parts[2] = world.rng.choice((world.parts()[0][2], b"admin", b"", b"*", parts[2] + b"0"))
    return b"/".join(parts), campaign


def other_device(world: World) -> tuple[bytes, str]:
    parts, campaign = world.parts()
    parts[3] = world.rng.choice((b"", b"phone.0", b"phone.99", parts[3] + b"+", b"null"))
    return b"/".join(parts), campaign


def other_expiry(world: World) -> tuple[bytes, str]:
    """A second more or less, and what int() takes besides digits."""
    parts, campaign = world.parts()
    at_ms = int(parts[4])
    parts[4] = world.rng.choice(
        (
            b"%d" % (at_ms + SECOND_MS), b"%d" % (at_ms - SECOND_MS), b"%d" % (at_ms + 1),
            b"0%d" % at_ms, b"+%d" % at_ms, b" %d" % at_ms, b"%d " % at_ms, b"1_%d" % at_ms,
            b"-1", b"", b"inf", b"1e99", b"9" * 300, b"%d.0" % at_ms, b"0x7fffffffffff",
        )
    )  # fmt: skip
    return b"/".join(parts), campaign


def late(world: World) -> tuple[bytes, str]:
    """Signed, but over: since a second, a millisecond, this very one, for ever."""
    valid_ms = world.rng.choice((-SECOND_MS, -1, 0, -VALID_MS, -world.now_ms, -2 * world.now_ms))
    kid, campaign = world.rng.choice(list(world.keys.keys)), world.rng.choice(world.campaigns)
    return world.sign(kid, campaign, f"late{world.rng.randrange(1000)}", "", valid_ms), campaign


def elsewhere(world: World) -> tuple[bytes, str]:
    """A pass that is good, shown at another campaign."""
    token, mine = world.pick()
    return token, world.rng.choice([c for c in world.campaigns if c != mine])


def moved_slash(world: World) -> tuple[bytes, str]:
    """The same characters, other fields: what a MAC over joined fields would not notice."""
    token, campaign = world.pick()
    if world.rng.random() < 0.5:
        places = [n for n, byte in enumerate(token) if byte == ord("/")]
        at = world.rng.choice(places)
        bare = token[:at] + token[at + 1 :]
        to = max(0, min(len(bare), at + world.rng.randint(-3, 3)))
        return bare[:to] + b"/" + bare[to:], campaign
    parts = token.split(b"/")
    one, other = world.rng.sample(range(6), 2)
    parts[one], parts[other] = parts[other], parts[one]
    return b"/".join(parts), campaign


def more_or_fewer_fields(world: World) -> tuple[bytes, str]:
    parts, campaign = world.parts()
    at = world.rng.randrange(7)
    if world.rng.random() < 0.5:
        parts[at:at] = [world.rng.choice((b"", b"x", parts[-1]))]
    else:
        del parts[at : at + world.rng.randint(1, 3)]
    return b"/".join(parts), campaign


def spliced(world: World) -> tuple[bytes, str]:
    """The beginning of one pass, the rest of another."""
    one, campaign = world.parts()
    other, _ = world.parts()
    at = world.rng.randint(1, 5)
    return b"/".join([*one[:at], *other[at:]]), campaign


# -- MAC and keys ----------------------------------------------------------------------------------


def mac_bit(world: World) -> tuple[bytes, str]:
    """One bit of the 128, in hex that is well formed."""
    parts, campaign = world.parts()
    bits = int(parts[5], 16) ^ 1 << world.rng.randrange(128)
    parts[5] = b"%032x" % bits
    return b"/".join(parts), campaign


def mac_form(world: World) -> tuple[bytes, str]:
    """Short, long, empty, in capitals, in raw bytes, all zeros."""
    parts, campaign = world.parts()
    mac = parts[5]
    parts[5] = world.rng.choice(
        (
            b"", b"0" * MAC_HEX, mac[: world.rng.randrange(MAC_HEX)], mac + mac, mac + b"00",
            b"0x" + mac, mac[::-1], bytes.fromhex(mac.decode()), b64encode(mac), b"none",
            mac.upper() if mac != mac.upper() else b"F" * MAC_HEX, mac + b"=", b" " + mac[1:],
        )
    )  # fmt: skip
    return b"/".join(parts), campaign


def mac_of_another(world: World) -> tuple[bytes, str]:
    """The MAC of another pass, of the same user in another campaign among them."""
    parts, campaign = world.parts()
    parts[5] = world.parts()[0][5]
    return b"/".join(parts), campaign


def other_start(world: World) -> tuple[bytes, str]:
    """Version and kid: the other key's, none, unknown, in another case."""
    parts, campaign = world.parts()
    kids = [kid.encode() for kid in world.keys.keys]
    kid = world.rng.choice((*kids, b"", b"zz", b"*", b"0", b"none", kids[0].upper(), kids[0] * 2))
    parts[0] = world.rng.choice((b"v1.", b"v1.", b"v0.", b"v2.", b"V1.", b"v1", b"", b"v1..")) + kid
    return b"/".join(parts), campaign


def other_key(world: World) -> tuple[bytes, str]:
    """Signed in full, with a key that is not the kid's."""
    campaign = world.rng.choice(world.campaigns)
    what = Pass(campaign, f"user@{world.rng.randrange(99)}", "", world.now_ms + VALID_MS)
    return world.rng.choice(world.strange).sign(what).encode(), campaign


def other_algorithm(world: World) -> tuple[bytes, str]:
    """What can be computed without the key: no key, a key of zeros, the kid or the body as key."""
    parts, campaign = world.parts()
    parts[2] = b"user+%d" % world.rng.randrange(999)
    body = b"/".join(parts[:5])
    kid = parts[0][3:]
    made = world.rng.choice(
        (
            blake2s(body, digest_size=16).digest(), blake2s(body, digest_size=16, key=kid).digest(),
            blake2s(body, digest_size=16, key=bytes(32)).digest(),
            hmac_digest(kid, body, "sha256")[:16], hmac_digest(b"", body, "sha256")[:16],
            blake2s(bytes.fromhex(parts[5].decode()) + body, digest_size=16).digest(),
        )
    )  # fmt: skip
    return body + b"/" + made.hex().encode(), campaign


def extended(world: World) -> tuple[bytes, str]:
    """More after a signed body, its MAC at the end as it was: a length extension's shape."""
    token, campaign = world.pick()
    body, _, mac = token.rpartition(b"/")
    more = world.rng.choice((b"0", b"/", b"\x80", b"//" + body, b"&admin=1", b"/" + mac))
    return body + more + b"/" + mac, campaign


# -- encodings -------------------------------------------------------------------------------------


def encoded(world: World) -> tuple[bytes, str]:
    """The same pass in another writing; each would be a second name of one pass."""
    token, campaign = world.pick()
    text = token.decode()
    at = world.rng.randrange(len(text))
    one = text[at]
    code = ord(one)
    head, tail = token[:at], token[at + 1 :]
    written = (
        quote(text, safe="").encode(),
        head + b"%%%02x" % code + tail,
        head + b"\\u%04x" % code + tail,
        head + chr(code + 0xFEE0).encode() + tail,
        head + bytes((0xC0 | code >> 6, 0x80 | code & 63)) + tail,
        head + bytes((code | 0x80,)) + tail,
        text.encode("utf-16"),
        b64encode(token),
        urlsafe_b64encode(token).rstrip(b"="),
        token.hex().encode(),
        token.swapcase(),
        token.replace(b"+", b"@") if b"+" in token else token + b"@",
        token.replace(b"/", b"%2F"),
        token.replace(b"/", b"\\"),
        b'"' + token + b'"',
        b"\xef\xbb\xbf" + token,
        b"eyJhbGciOiJub25lIn0." + urlsafe_b64encode(token) + b".",
    )
    return world.rng.choice(written), campaign


def padded(world: World) -> tuple[bytes, str]:
    """What lenient readers skip, before and after."""
    token, campaign = world.pick()
    what = world.rng.choice(
        (b" ", b"\t", b"=", b"==", b"\0", b"\n", b"\r\n", b"/", b",", b";", b".")
    )
    return (what + token if world.rng.random() < 0.5 else token + what), campaign


def several(world: World) -> tuple[bytes, str]:
    """Two passes in one, of which a reader might take either."""
    one, campaign = world.pick()
    other, _ = world.pick()
    return world.rng.choice((b",", b" ", b", ", b"/", b"", b"\0", b"Bearer ")).join(
        (one, other)
    ), campaign


def too_long(world: World) -> tuple[bytes, str]:
    """Longer than any pass, and where that would be hidden well, in a field that is signed."""
    length, rng = world.rng.choice(LONG_BYTES), world.rng
    parts, campaign = world.parts()
    if rng.random() < 0.5:
        kid = rng.choice(list(world.keys.keys))
        return world.sign(kid, campaign, "u" * length, ""), campaign
    at = rng.randrange(6)
    parts[at] += rng.choice((b"0", b"/", b"a", b"+")) * length
    return b"/".join(parts), campaign


MUTATIONS: Mapping[str, Mutation] = {
    make.__name__: make
    for make in (
        flipped_bit, other_byte, inserted, deleted, truncated, doubled_span, two_swapped, noise,
        other_campaign, other_user, other_device, other_expiry, late, elsewhere, moved_slash,
        more_or_fewer_fields, spliced, mac_bit, mac_form, mac_of_another, other_start, other_key,
        other_algorithm, extended, encoded, padded, several,
    )
}  # fmt: skip
"""All but the long ones, of which one in LONG_EVERY is enough."""
LONG_EVERY = 500


def attempts(world: World, count: int) -> Iterator[Attempt]:
    """So many, every kind in its turn."""
    kinds = list(MUTATIONS.items())
    for n in range(count):
        name, make = kinds[n % len(kinds)]
        if n % LONG_EVERY == LONG_EVERY - 1:
            name, make = "too_long", too_long
        token, campaign = make(world)
        while (token, campaign) in world.genuine:
            token, campaign = make(world)
        yield Attempt(name, token, campaign)
