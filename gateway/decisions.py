"""What became of one grab, in the words of the script and of this process."""

from typing import NamedTuple, Protocol

from flashgrab.ids import OWN_REQUEST_PREFIX
from flashgrab.outcomes import BY_SCRIPT_CODE, Outcome

OWN_PREFIX = OWN_REQUEST_PREFIX.encode()


class Grant(NamedTuple):
    """One grant as the holders hash has it; `state` is g (granted) or r (returned)."""

    serial: int
    seq: int
    round: int
    state: str
    request_id: str


class Decision(NamedTuple):
    """What became of one grab. `grants`: the one granted or replayed, or all that limit him.

    `at_ms` is Redis' time when the script decided, 0 where it did not.
    """

    outcome: Outcome
    grants: tuple[Grant, ...] = ()
    at_ms: int = 0


BLOCKED = Decision(Outcome.BLOCKED)


class Reply(NamedTuple):
    """What the reply of a script call said of all its requests; `left` is -1 between rounds."""

    epoch: int
    generation: int
    seq: int
    now_ms: int
    round: int
    left: int


class Waiter(Protocol):
    """Who waits in a batch. Exactly one of the two is called, once."""

    def granted(self, serial: int, reply: Reply) -> None:
        """The script has just granted this serial."""
        ...

    def decided(self, decision: Decision) -> None:
        """Anything else: a replay, a refusal, or no answer in time."""
        ...


def read_grants(entry: str) -> tuple[Grant, ...]:
    """A holder's entry (lua/README.md) as grants."""
    return tuple(
        Grant(int(serial), int(seq), int(number), state, request_id)
        for serial, seq, number, state, request_id in (
            line.split(",") for line in entry.split(";") if line
        )
    )


def new_grant(serial: int, reply: Reply) -> Decision:
    """What a serial of the script means; its seq and request id matter to nobody yet."""
    return Decision(Outcome.GRANTED, (Grant(serial, 0, reply.round, "g", ""),), reply.now_ms)


def decision_of(result: int | bytes, reply: Reply, request_id: bytes) -> Decision:
    """A result of the script that is no new grant. Raises ValueError or KeyError: it is none."""
    if isinstance(result, int):
        return Decision(BY_SCRIPT_CODE[result], (), reply.now_ms)
    text = result.decode()
    grants = read_grants(text[1:])
    if not grants or text[0] not in "RU":
        raise ValueError(f"no result: {text[:80]!r}")
    if text[0] == "U":
        return Decision(Outcome.USER_LIMIT, grants, reply.now_ms)
    # A request id of our own can only come back from our own resend: its sender asked once.
    ours = request_id.startswith(OWN_PREFIX)
    return Decision(Outcome.GRANTED if ours else Outcome.REPLAYED, grants, reply.now_ms)
