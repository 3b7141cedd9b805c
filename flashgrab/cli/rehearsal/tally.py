"""Holds the answers of a campaign against what every buyer must see. No I/O.

A buyer with a coupon: one key wins; every ask with it names the same coupon, at most one of them
as new; every other key is refused with USER_LIMIT. A buyer without: the same refusal everywhere.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from flashgrab.cli.rehearsal.crowd import Answered
from flashgrab.cli.rehearsal.sale import Sale
from flashgrab.outcomes import Outcome

PROBLEMS_MAX = 20
"""Problems of a campaign that are kept as text; the rest are counted."""

DIGITS = 3
"""Of a latency that are kept."""

_WON = (Outcome.GRANTED, Outcome.REPLAYED)
_FINAL = (*_WON, Outcome.USER_LIMIT, Outcome.SOLD_OUT)


@dataclass
class Tally:
    """One campaign's answers. A buyer is judged and forgotten when his last answer is there."""

    sale: Sale
    answered: int = 0
    granted: int = 0
    replayed: int = 0
    unanswered: int = 0
    repeats: int = 0
    others: int = 0
    """Coupons that went to buyers who are not of this crowd; see `went_to_others`."""
    refused: Counter[Outcome] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    problems_more: int = 0
    began_s: float = 0.0
    ended_s: float = 0.0
    last_grant_s: float = 0.0
    took_us: Counter[int] = field(default_factory=Counter)
    """How long each ask took, in microseconds of three digits: so many buckets and no more."""
    _open: dict[str, list[Answered]] = field(default_factory=dict)
    _owners: dict[str, str] = field(default_factory=dict)

    def take(self, answer: Answered) -> None:
        """Count an answer; judge the buyer when it is his last."""
        self.began_s = min(self.began_s, answer.began_s) if self.answered else answer.began_s
        self.ended_s = max(self.ended_s, answer.ended_s)
        self.answered += 1
        self.repeats += answer.repeats
        took_us = int((answer.ended_s - answer.began_s) * 1_000_000)
        self.took_us[took_us - took_us % 10 ** max(len(str(took_us)) - DIGITS, 0)] += 1
        if answer.outcome is Outcome.GRANTED:
            self.last_grant_s = max(self.last_grant_s, answer.ended_s)
        if answer.outcome is None:
            self.unanswered += 1
        elif answer.outcome not in _WON:
            self.refused[answer.outcome] += 1
        of_buyer = self._open.setdefault(answer.ask.user_id, [])
        of_buyer.append(answer)
        if len(of_buyer) == len(self.sale.copies):
            del self._open[answer.ask.user_id]
            self._judge(answer.ask.user_id, of_buyer)

    def went_to_others(self, left: int) -> None:
        """Where nothing is left in the end, whatever this crowd did not get went to other buyers.

        Where something is left, nobody else explains what this crowd is missing.
        """
        if left == 0:
            self.others = max(self.sale.quota - self.granted, 0)

    @property
    def expected(self) -> int:
        """Coupons that must be granted to this crowd."""
        return min(self.sale.quota - self.others, len(self.sale.buyers))

    def close(self) -> None:
        """After the last answer: the sums, which come first and are never left out."""
        for buyer, answers in self._open.items():
            missing = len(self.sale.copies) - len(answers)
            self._problem(f"buyer {buyer}: {missing} requests were never answered")
        if self.granted != self.expected:
            self.problems.insert(
                0,
                f"granted {self.granted}, expected {self.expected}"
                f" = min(quota {self.sale.quota}, buyers {len(self.sale.buyers)})",
            )

    @property
    def unexpected(self) -> int:
        """Asks that ended with neither a coupon nor a refusal that a sale has."""
        return self.unanswered + sum(n for o, n in self.refused.items() if o not in _FINAL)

    @property
    def sold_out_ms(self) -> int | None:
        """From the first request to the crowd's last coupon; None where some are left."""
        if self.granted + self.others < self.sale.quota:
            return None
        return max(int((self.last_grant_s - self.began_s) * 1000), 0)

    @property
    def seconds(self) -> float:
        """From the first request to the last answer."""
        return self.ended_s - self.began_s

    @property
    def grabs_per_second(self) -> float:
        """Asks answered a second."""
        return self.answered / self.seconds if self.seconds > 0 else 0.0

    def _judge(self, buyer: str, answers: Sequence[Answered]) -> None:
        won = [a for a in answers if a.outcome in _WON]
        if won:
            self.granted += 1
            self.replayed += len(won) - 1
        for grab in {a.grab_ids[0] for a in won}:
            owner = self._owners.setdefault(grab, buyer)
            if owner != buyer:
                self._problem(f"{grab} was given to buyer {owner} and to buyer {buyer}")
            if grab.rpartition("-")[0] != self.sale.campaign_id:
                self._problem(f"buyer {buyer}: {grab} is of another campaign")
        for problem in buyer_problems(answers):
            self._problem(f"buyer {buyer}: {problem}")

    def _problem(self, text: str) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(text)
        else:
            self.problems_more += 1


def buyer_problems(answers: Sequence[Answered]) -> list[str]:
    """What is wrong with one buyer's answers, where he may hold one coupon; mostly nothing."""
    problems = [f"key {a.ask.key} ended with {a.said}" for a in answers if a.outcome not in _FINAL]
    if problems:
        return problems
    won = [a for a in answers if a.outcome in _WON]
    if not won:
        said = {a.outcome for a in answers}
        return [] if said == {Outcome.SOLD_OUT} else [f"holds nothing, was told {_names(said)}"]
    coupons = {a.grab_ids[0] for a in won}
    keys = {a.ask.key for a in won}
    if len(coupons) > 1:
        problems.append(f"holds {len(coupons)} coupons: {', '.join(sorted(coupons))}")
    news = sum(a.outcome is Outcome.GRANTED for a in won)  # 0: that answer got lost on its way
    if news > len(coupons):
        problems.append(f"told {news} times that {', '.join(sorted(coupons))} is new")
    for a in answers:
        if a.ask.key in keys and a.outcome not in _WON:
            problems.append(f"key {a.ask.key} won, but was told {a.said} too")
        if a.ask.key not in keys and a.outcome is not Outcome.USER_LIMIT:
            problems.append(f"key {a.ask.key} of a winner was told {a.said}, not USER_LIMIT")
        if a.outcome is Outcome.USER_LIMIT and a.grab_ids and set(a.grab_ids) != coupons:
            problems.append(f"USER_LIMIT names {', '.join(a.grab_ids)}")
    return problems


def _names(outcomes: set[Outcome | None]) -> str:
    return ", ".join(sorted(o.name for o in outcomes if o is not None))
