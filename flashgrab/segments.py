"""A segment: the users that a campaign is for, as sorted 128-bit keyed digests.

Digests, because a list of user ids in every gateway would be five times as large, and a leaked
one would be the shop's customers. Keyed with a secret of the stack, so that nobody can try ids.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2s

from flashgrab.ids import PERSON_ID, is_user_id

DIGEST_BYTES = 16
CHUNK_MEMBERS = 65_536
"""Members of a chunk: 1 MB, which Redis and PostgreSQL take in a few milliseconds."""
CHUNK_BYTES = CHUNK_MEMBERS * DIGEST_BYTES
MEMBERS_MAX = 2_000_000
LINE_BYTES_MAX = 66  # an id and a CR


class SegmentInvalid(ValueError):
    """A list of users is wrong; the message names the line."""


@dataclass(frozen=True, slots=True)
class SegmentKey:
    """The secret, ready to be used. `mark` tells two keys apart and says nothing of them."""

    _keyed: blake2s = field(repr=False)
    mark: str

    @classmethod
    def parse(cls, text: str) -> "SegmentKey":
        """At least 32 characters. Raises ValueError otherwise."""
        if len(text) < 32:
            raise ValueError("needs at least 32 characters")
        secret = blake2s(text.encode(), person=b"fg-segm").digest()
        keyed = blake2s(key=secret, digest_size=DIGEST_BYTES)
        mark = keyed.copy()
        mark.update(b"\n")  # no user id
        return cls(keyed, mark.hexdigest()[:8])

    def digest(self, user_id: bytes) -> bytes:
        """What stands for a user in a segment."""
        keyed = self._keyed.copy()
        keyed.update(user_id)
        return keyed.digest()


@dataclass(frozen=True, slots=True)
class Loaded:
    """A segment as it was read from a list: `stamp` is of its content and key."""

    stamp: str
    members: int
    chunks: tuple[bytes, ...] = field(repr=False)


class Reader:
    """Reads a list as it arrives: one user id a line; empty lines are passed over."""

    def __init__(self, key: SegmentKey) -> None:
        self._key = key
        self._rest = b""
        self._line = 0
        self._digests: set[bytes] = set()

    def feed(self, data: bytes) -> None:
        """The next bytes. Raises SegmentInvalid."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(line)
        if len(self._rest) > LINE_BYTES_MAX:
            self._take(self._rest)

    def end(self) -> Loaded:
        """All of it; takes a second for a million. Raises SegmentInvalid."""
        if self._rest:
            self._take(self._rest)
        if not self._digests:
            raise SegmentInvalid("the list is empty: expected one user id a line")
        whole = b"".join(sorted(self._digests))
        stamp = blake2s(whole, digest_size=8, salt=self._key.mark.encode()).hexdigest()
        chunks = [whole[at : at + CHUNK_BYTES] for at in range(0, len(whole), CHUNK_BYTES)]
        return Loaded(stamp, len(self._digests), tuple(chunks))

    def _take(self, line: bytes) -> None:
        self._line += 1
        user_id = line.removesuffix(b"\r")
        if not user_id:
            return
        if not is_user_id(user_id.decode("latin-1")):
            shown = user_id[:40].decode("ascii", "replace")
            shown = "".join(c if c.isprintable() else "?" for c in shown)
            raise SegmentInvalid(
                f"line {self._line}: expected a user id, {PERSON_ID}, not '{shown}'"
            )
        if len(self._digests) >= MEMBERS_MAX:
            raise SegmentInvalid(f"line {self._line}: a segment has at most {MEMBERS_MAX:,} users")
        self._digests.add(self._key.digest(user_id))


class Segment:
    """A segment in memory, 16 bytes a member: chunks as they came, searched by halves."""

    __slots__ = ("_chunks", "_firsts", "members", "stamp")

    def __init__(self, stamp: str, chunks: Sequence[bytes]) -> None:
        """Raises ValueError where the chunks are no sorted digests."""
        if not chunks or any(not c or len(c) % DIGEST_BYTES for c in chunks):
            raise ValueError("a chunk that is no list of digests")
        self.stamp = stamp
        self.members = sum(map(len, chunks)) // DIGEST_BYTES
        self._chunks = tuple(chunks)
        self._firsts = [chunk[:DIGEST_BYTES] for chunk in chunks]
        if self._firsts != sorted(self._firsts):
            raise ValueError("chunks that are not in order")

    def has(self, digest: bytes) -> bool:
        """Whether a user is a member."""
        at = bisect_right(self._firsts, digest) - 1
        if at < 0:
            return False
        chunk = self._chunks[at]
        low, high = 0, len(chunk) // DIGEST_BYTES
        while low < high:
            middle = (low + high) // 2
            found = chunk[middle * DIGEST_BYTES : (middle + 1) * DIGEST_BYTES]
            if found == digest:
                return True
            if found < digest:
                low = middle + 1
            else:
                high = middle
        return False
