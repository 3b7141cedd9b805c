"""The buyers of one load test and what they were told; shared by Locust's users. No I/O."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from loadtests.rules import NO_ANSWER, is_error

WRONG_MAX = 20
"""Wrong answers kept as text."""


@dataclass
class Crowd:
    """`buyers` to be served by `users` that run at once, dealt out (`deal`) or one by one (`next`);
    each buyer grabs, then repeats his grab with the same key. `opens_s` is where users keep the
    opening, `by_second` counts requests from the first one on."""

    prefix: str
    buyers: int
    users: int
    answers: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    errors: int = 0
    repeats: int = 0
    wrong: list[str] = field(default_factory=list)
    coupons: dict[str, str] = field(default_factory=dict)
    served: int = 0
    began_s: float | None = None
    ended_s: float = 0.0
    opens_s: float | None = None
    by_second: Counter[int] = field(default_factory=Counter)
    _dealt: int = 0
    _judged: int = 0
    _done: int = 0

    def deal(self) -> list[str]:
        """The buyers of the next user; nothing for users past the last."""
        index, self._dealt = self._dealt, self._dealt + 1
        if index >= self.users:
            return []
        return [f"{self.prefix}{n}" for n in range(index, self.buyers, self.users)]

    def next(self) -> str | None:
        """The next buyer, whoever serves him; None after the last."""
        index, self._dealt = self._dealt, self._dealt + 1
        return f"{self.prefix}{index}" if index < self.buyers else None

    def all_served(self) -> bool:
        """Whether every buyer has his two answers."""
        return self._judged == self.buyers

    def sent(self, status: int, code: str, now_s: float) -> None:
        """Count one request of a grab and its answer."""
        self.began_s = now_s if self.began_s is None else self.began_s
        self.ended_s = now_s
        self.requests += 1
        self.by_second[int(now_s - self.began_s)] += 1
        self.answers[code] += 1
        self.errors += is_error(status, code)

    def judge(
        self, buyer: str, first: tuple[str, str | None], again: tuple[str, str | None]
    ) -> None:
        """Hold a buyer's two final answers, (code, grab_id) each, against the contract.

        `first` may be REPLAYED where the answer to an earlier sending was lost.
        """
        self._judged += 1
        self.served += NO_ANSWER not in (first[0], again[0])
        won = first[0] in ("GRANTED", "REPLAYED")
        expected = ("REPLAYED", first[1]) if won else first
        if again != expected:
            self._complain(f"{buyer} was told {first}, then {again}")
        if won and first[1] is not None:
            owner = self.coupons.setdefault(first[1], buyer)
            if owner != buyer:
                self._complain(f"{first[1]} was given to {owner} and to {buyer}")
        elif first[0] != "SOLD_OUT":
            self._complain(f"{buyer} was told {first[0]}")

    def done(self) -> bool:
        """A user has served his buyers; True for the last one."""
        self._done += 1
        return self._done == self.users

    def report(self) -> dict[str, Any]:
        """Plain data for the verdict; seconds from the first to the last answer of a grab."""
        seconds = self.ended_s - self.began_s if self.began_s is not None else 0.0
        return {
            "buyers": self.buyers,
            "users": self.users,
            "served": self.served,
            "granted": len(self.coupons),
            "requests": self.requests,
            "errors": self.errors,
            "repeats": self.repeats,
            "answers": dict(sorted(self.answers.items())),
            "wrong": self.wrong,
            "by_second": [self.by_second[n] for n in range(max(self.by_second, default=-1) + 1)],
            "seconds": round(seconds, 3),
            "requests_per_second": round(self.requests / seconds, 1) if seconds > 0 else 0.0,
        }

    def _complain(self, text: str) -> None:
        if len(self.wrong) < WRONG_MAX:
            self.wrong.append(text)
