"""The proof of work that may be asked for before a pass: what it is, how it is solved and checked.

A challenge is a signed string (seal.py) of campaign, user, bits and expiry; nothing about it is
remembered. Its solution are PARTS counters: for each part p the counter c such that
SHA-256(SHA-256(challenge) + p + c), both as 4 bytes, big end first, begins with `bits` zero bits.
So the work is PARTS x 2^bits hashes on average, and several small parts rather than a large one,
because luck then matters less: one person in a hundred works twice as long as the average, not
4.6 times. The answer is `CHALLENGE,C1.C2.…`, counters in hex.

gateway/static/challenge-worker.js does the same in a browser; a test holds the two together.
"""

from hashlib import sha256
from typing import NamedTuple

from flashgrab.passes import PassKeys
from flashgrab.seal import Seal

PARTS = 8
BITS_MAX = 24
VALID_MS = 120_000
"""From its issue to its use, the solving and a queue included."""
ANSWER_LENGTH_MAX = 640

Work = tuple[int, ...]


class Challenge(NamedTuple):
    """What a valid challenge says."""

    campaign_id: str
    user_id: str
    bits: int
    expires_ms: int


class Challenges:
    """Makes challenges and checks their answers, in microseconds and without a memory.

    A solved one can be shown again until it expires: by the same user, in the same campaign, to
    whom it gives nothing that he did not have.
    """

    def __init__(self, keys: PassKeys) -> None:
        self._seal = Seal(keys, b"challenge")

    def make(self, campaign_id: str, user_id: str, bits: int, now_ms: int) -> str:
        return self._seal.sign(campaign_id, user_id, str(bits), str(now_ms + VALID_MS))

    def read(self, challenge: str) -> Challenge | None:
        """What it says, where we made it."""
        fields = self._seal.open(challenge)
        if fields is None:
            return None
        campaign_id, user_id, bits, expires_ms = fields
        return Challenge(campaign_id, user_id, int(bits), int(expires_ms))

    def is_answered(self, answer: str, campaign_id: str, user_id: str, now_ms: int) -> bool:
        """Whether this user did the work, for this campaign, and lately."""
        challenge, _, text = answer.rpartition(",")
        if len(answer) > ANSWER_LENGTH_MAX or (said := self.read(challenge)) is None:
            return False
        if (said.campaign_id, said.user_id) != (campaign_id, user_id) or said.expires_ms <= now_ms:
            return False
        work = _read_work(text)
        return work is not None and is_work(challenge, said.bits, work)


def is_work(challenge: str, bits: int, work: Work) -> bool:
    """Whether these counters solve it."""
    seed = sha256(challenge.encode()).digest()
    return len(work) == PARTS and all(
        _zeros(seed + part.to_bytes(4, "big") + counter.to_bytes(4, "big"), bits)
        for part, counter in enumerate(work)
    )


def solve(challenge: str, bits: int) -> str:
    """The answer, for clients in Python and tests: PARTS x 2^bits hashes of about 0.5 µs."""
    seed = sha256(challenge.encode()).digest()
    work = []
    for part in range(PARTS):
        begun, counter = sha256(seed + part.to_bytes(4, "big")), 0
        while True:
            attempt = begun.copy()
            attempt.update(counter.to_bytes(4, "big"))
            if int.from_bytes(attempt.digest()[:4], "big") >> (32 - bits) == 0:
                break
            counter += 1
        work.append(counter)
    return f"{challenge},{'.'.join(f'{counter:x}' for counter in work)}"


def _zeros(data: bytes, bits: int) -> bool:
    return int.from_bytes(sha256(data).digest()[:4], "big") >> (32 - bits) == 0


def _read_work(text: str) -> Work | None:
    words = text.split(".")
    if len(words) != PARTS:
        return None
    try:
        work = tuple(int(word, 16) for word in words)
    except ValueError:
        return None
    return work if all(0 <= counter < 1 << 32 for counter in work) else None
