"""Tries attempts on PassKeys itself, both ways in: what was accepted, and what raised."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from flashgrab.passes import PassKeys
from tests.passes.mutations import Attempt, World

SHOWN_MAX = 5


@dataclass
class Verdict:
    """What became of the attempts. `lost`: passes that are good and were refused."""

    by_kind: Counter[str] = field(default_factory=Counter)
    accepted: list[Attempt] = field(default_factory=list)
    raised: list[tuple[Attempt, str]] = field(default_factory=list)
    lost: int = 0

    @property
    def is_good(self) -> bool:
        return not (self.accepted or self.raised or self.lost)

    def __str__(self) -> str:
        count = sum(self.by_kind.values())
        counts = f"{len(self.accepted)} accepted, {len(self.raised)} exceptions"
        lines = [
            f"{count:,} attempts of {len(self.by_kind)} kinds: {counts}; {self.lost} good lost"
        ]
        lines += [f"accepted: {attempt}" for attempt in self.accepted[:SHOWN_MAX]]
        lines += [f"raised {error}: {attempt}" for attempt, error in self.raised[:SHOWN_MAX]]
        return "\n".join(lines)


def trial(keys: PassKeys, world: World, made: Iterable[Attempt]) -> Verdict:
    """Each attempt by verify (the lane's way) and check (the route's)."""
    verdict, verify, check, now_ms = Verdict(), keys.verify, keys.check, world.now_ms
    for attempt in made:
        kind, token, campaign = attempt
        verdict.by_kind[kind] += 1
        try:
            fields, read = verify(token, now_ms), check(token.decode("latin-1"), now_ms)
        except Exception as error:
            verdict.raised.append((attempt, repr(error)))
            continue
        if (fields is not None and fields[1] == campaign.encode()) or (
            read is not None and read.campaign_id == campaign
        ):
            verdict.accepted.append(attempt)
    verdict.lost = sum(verify(token, now_ms) is None for token, _ in world.passes)
    return verdict
