"""What the clients of a run saw, and what was there at its end: all that the checker looks at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum


class Answer(Enum):
    """What a client knows after an attempt."""

    OK = "ok"  # it holds the coupon named
    REFUSED = "refused"  # this attempt took nothing
    UNKNOWN = "unknown"  # no answer, or one that asks to repeat: it may have happened


@dataclass(frozen=True, slots=True)
class Ask:
    """One grab over HTTP. Times are monotonic ms of the one process that all clients are in."""

    user: str
    key: str
    gateway: int
    began_ms: int
    ended_ms: int
    answer: Answer
    code: str = ""
    """GRANTED, REPLAYED, the code of a refusal, "" where nothing came."""
    serial: int = 0
    state: str = ""
    """What an OK said of the coupon: GRANTED, PERSISTED or RETURNED."""
    named: tuple[int, ...] = ()
    """Serials that a USER_LIMIT said were this user's."""
    final: bool = False
    """Asked after everything was healed."""


@dataclass(frozen=True, slots=True)
class GiveBack:
    """A return over HTTP, repeated with its operation id until it was applied (`done`)."""

    serial: int
    began_ms: int
    ended_ms: int
    done: bool


@dataclass(frozen=True, slots=True)
class Fact:
    """A grant, as holders, outbox or ledger have it. Holders know no device and no time, and of a
    return (`returned_seq`, 0 for none) only that it was: -1."""

    seq: int
    serial: int
    round: int
    user: str
    key: str
    device: str = ""
    at_ms: int = 0
    returned_seq: int = 0


@dataclass(frozen=True, slots=True)
class Count:
    """The counters of a round in Redis, of one moment."""

    quota: int
    left: int
    granted: int
    returned: int


@dataclass(frozen=True, slots=True)
class Window:
    """A round in the ledger."""

    opens_at: int
    closes_at: int
    quota: int


@dataclass(frozen=True, slots=True)
class Sample:
    """A reading of the counters while the sale ran."""

    at_ms: int
    seq: int
    rounds: tuple[Count, ...]
    epoch: int = 1


@dataclass(frozen=True)
class Redis:
    """A campaign in Redis. `granted` are its holders' grants, `returns` the returns that wait in
    the outbox: seq by serial."""

    seq: int
    serial: int
    watermark: int
    rounds: dict[int, Count]
    granted: Sequence[Fact]
    outbox: Sequence[Fact]
    epoch: int = 1
    returns: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Final:
    """Ledger and Redis after healing and draining. `redis` is None where it may not be asked:
    its data were deleted, or older ones stand in their place, and the campaign is closed."""

    per_user: int
    per_device: int
    rounds: dict[int, Window]
    ledger: Sequence[Fact]
    redis: Redis | None
    dead: Sequence[int] = ()
    """Seqs in the dead table; 0 where a letter names none."""
    voids: Sequence[tuple[int, int, int]] = ()
    """First seq, last seq, and the epoch that a rebuild opened beyond them."""
    lost_max: int = 0
    """Acknowledgements that the product's own reports of its rebuilds allow to be lost."""


@dataclass
class History:
    """Everything that one run saw of one campaign."""

    asks: list[Ask] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    returns: list[GiveBack] = field(default_factory=list)

    def acknowledged(self) -> dict[int, Ask]:
        """The first answer that named each serial as the asker's own."""
        found: dict[int, Ask] = {}
        for ask in self.asks:
            if ask.answer is Answer.OK:
                found.setdefault(ask.serial, ask)
        return found
