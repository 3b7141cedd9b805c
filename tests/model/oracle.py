"""What the scripts must do, in short Python that shares nothing with them but their forms.

It knows the whole campaign, derives what Redis counts (left, seq, devices) from the lists of
grants and returns, and takes the time from the reply that it judges.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

Request = tuple[str, str, str]
"""User, device, request id."""

REFUSED = {
    "OFFLINE": -1, "ENDED": -2, "PAUSED": -3, "NOT_STARTED": -4,
    "BUSY": -5, "USER_LIMIT": -6, "DEVICE_LIMIT": -7, "SOLD_OUT": -8,
}  # fmt: skip


@dataclass(frozen=True)
class Grant:
    """One coupon given."""

    serial: int
    seq: int
    round: int
    user: str
    device: str
    request_id: str

    def entry(self, state: str) -> str:
        return f"{self.serial},{self.seq},{self.round},{state},{self.request_id};"

    def fact(self, kind: str) -> str:
        return f"{kind},{self.serial},{self.round},{self.user},{self.device},{self.request_id}"


@dataclass
class Round:
    opens_at: int
    closes_at: int
    quota: int


@dataclass
class Entry:
    """One entry of the outbox: the facts of one call, and the seq of the last."""

    last_seq: int
    facts: list[str]
    at_ms: int


@dataclass
class Caller:
    """What a gateway believes when it calls."""

    schema: str = "1"
    epoch: str = "1"
    run: str = "run-1"
    floor: int = 0
    number: int = 1


@dataclass
class Oracle:
    """A published campaign. `base`: the last seq that a rebuild passed over, 0 without one; `void`:
    how many seqs no fact has; `returned`: serial → seq of the return."""

    rounds: list[Round]
    per_user: int
    per_device: int
    outbox_max: int
    status: str = "PUBLISHED"
    run: str = "run-1"
    generation: int = 1
    version: int = 1
    operation: str = "op-1"
    watermark: int = 0
    holes: str = ""
    grants: list[Grant] = field(default_factory=list)
    returned: dict[int, int] = field(default_factory=dict)
    epoch: int = 1
    base: int = 0
    void: int = 0
    outbox: list[Entry] = field(default_factory=list)

    # -- the scripts -----------------------------------------------------------------------------

    def grab(
        self, caller: Caller, requests: Sequence[Request], now_ms: int
    ) -> tuple[int, int, int, list[int | str]]:
        """Verdict, round, left and results."""
        if verdict := self._verdict(caller, now_ms):
            return verdict, 0, -1, []
        number = self.round_at(now_ms)
        before = len(self.grants)
        results = [self._one(request, number, now_ms) for request in requests]
        if fresh := self.grants[before:]:
            self.outbox.append(Entry(self.seq, [g.fact("g") for g in fresh], now_ms))
        return 0, number, self.left(number) if number else -1, results

    def _verdict(self, caller: Caller, now_ms: int) -> int:
        if verdict := self._stranger(caller):
            return verdict
        to_come = [n for n, r in enumerate(self.rounds, 1) if now_ms < r.closes_at]
        return 6 if to_come and to_come[0] not in (caller.number, caller.number + 1) else 0

    def _stranger(self, caller: Caller) -> int:
        """Why what the caller believes is not so; 0 where it is."""
        if caller.epoch != str(self.epoch):
            return 2
        if caller.run != self.run:
            return 3
        if caller.floor > self.seq:
            return 4
        return 5 if caller.schema != "1" else 0

    def _one(self, request: Request, number: int, now_ms: int) -> int | str:
        result = self.judge(request, number, now_ms)
        if isinstance(result, int) and result > 0:
            self.grants.append(Grant(result, self.seq + 1, number, *request))
        return result

    def round_at(self, now_ms: int) -> int:
        """The number of the round that is open; 0 between rounds."""
        numbered = enumerate(self.rounds, 1)
        return next((n for n, r in numbered if r.opens_at <= now_ms < r.closes_at), 0)

    def judge(self, request: Request, number: int, now_ms: int) -> int | str:
        """The result of one request, in the script's words; a serial that is granted changes
        nothing yet. `number` is the open round's."""
        user, device, request_id = request
        mine = [g for g in self.grants if g.user == user]
        for grant in mine:
            if grant.request_id == request_id:
                return "R" + self._entry(grant)
        refusals = {
            "OFFLINE": self.status == "OFFLINE",
            "ENDED": now_ms >= self.rounds[-1].closes_at,
            "PAUSED": self.status != "PUBLISHED",
            "NOT_STARTED": not number,
            "BUSY": self.is_full,
            "USER_LIMIT": sum(self.is_held(g) for g in mine) >= self.per_user,
            "DEVICE_LIMIT": 0 < self.per_device <= self.device_counts().get(device, 0),
            "SOLD_OUT": bool(number) and self.left(number) <= 0,
        }
        refusal = next((name for name, holds in refusals.items() if holds), None)
        if refusal == "USER_LIMIT":
            return "U" + "".join(map(self._entry, mine))
        return REFUSED[refusal] if refusal else self.serial + 1

    def give_back(
        self, caller: Caller, serial: int, number: int, user: str, now_ms: int
    ) -> tuple[int, int]:
        """Code and seq; `now_ms` is when it became a fact."""
        if code := self._stranger(caller):
            return code, self.seq
        found = [g for g in self.grants if (g.serial, g.round, g.user) == (serial, number, user)]
        if not found:
            return 6, self.seq
        if serial in self.returned:
            return 7, self.seq
        if self.is_full:
            return 8, self.seq
        self.returned[serial] = self.seq + 1
        self.generation += 1
        self.outbox.append(Entry(self.seq, [found[0].fact("r")], now_ms))
        return 0, self.seq

    def apply(
        self, epoch: int, version: int, operation: str, status: str, quotas: Sequence[int]
    ) -> int:
        if epoch != self.epoch:
            return 3
        if version <= self.version:
            return 1
        if any(quota < self.granted(n) - self.given_back(n) for n, quota in enumerate(quotas, 1)):
            return 4
        self.version, self.operation, self.status = version, operation, status
        self.generation += 1
        for round_, quota in zip(self.rounds, quotas, strict=True):
            round_.quota = quota
        return 0

    def settle(self, epoch: int, watermark: int, holes: str) -> tuple[int, int]:
        if epoch != self.epoch:
            return 2, 0
        if watermark > self.seq:
            return 3, 0
        self.holes = holes
        if watermark <= self.watermark:
            return 0, 0
        self.watermark = watermark
        kept = [e for e in self.outbox if e.last_seq > watermark]
        trimmed, self.outbox = len(self.outbox) - len(kept), kept
        return 0, trimmed

    def confirm(self, epoch: int, seq_min: int, run: str) -> int:
        if epoch != self.epoch:
            return 2
        if seq_min > self.seq:
            return 3
        if self.run == "rebuild":
            return 4
        self.run = run
        return 0

    def fence(self, epoch: int, run: str) -> tuple[int, int, int]:
        """Code, seq, and whether this run knew every fact."""
        if epoch != self.epoch:
            return 2, self.seq, 0
        whole = int(self.run == run)
        self.run = "rebuild"
        return 0, self.seq, whole

    def cut(self, lost: int, gap: int) -> None:
        """What a rebuild makes of it: the last `lost` facts that the ledger lacks are gone, seqs
        and serials go on `gap` beyond them."""
        last = max(self.seq - lost, self.watermark)
        start = self.seq + gap
        self.grants = [g for g in self.grants if g.seq <= last]
        self.returned = {
            serial: seq
            for serial, seq in self.returned.items()
            if seq <= last and any(g.serial == serial for g in self.grants)
        }
        self.void = start - len(self.grants) - len(self.returned)
        self.base = self.watermark = start
        self.epoch += 1
        self.generation += 1
        self.holes = ""
        self.outbox = []

    # -- what follows from grants and returns ----------------------------------------------------

    @property
    def seq(self) -> int:
        return len(self.grants) + len(self.returned) + self.void

    @property
    def serial(self) -> int:
        return max(self.base, self.grants[-1].serial if self.grants else 0)

    @property
    def is_full(self) -> bool:
        return self.seq - self.watermark >= self.outbox_max

    def is_held(self, grant: Grant) -> bool:
        return grant.serial not in self.returned

    def _entry(self, grant: Grant) -> str:
        return grant.entry("g" if self.is_held(grant) else "r")

    def granted(self, number: int) -> int:
        return sum(g.round == number for g in self.grants)

    def given_back(self, number: int) -> int:
        return sum(g.round == number and not self.is_held(g) for g in self.grants)

    def left(self, number: int) -> int:
        return self.rounds[number - 1].quota - self.granted(number) + self.given_back(number)

    def device_counts(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for grant in filter(self.is_held, self.grants if self.per_device else ()):
            counts[grant.device] = counts.get(grant.device, 0) + 1
        return counts

    def holders(self) -> dict[str, str]:
        held: dict[str, str] = {}
        for grant in self.grants:
            held[grant.user] = held.get(grant.user, "") + self._entry(grant)
        return held

    def campaign(self) -> dict[str, str]:
        numbers = {
            "epoch": self.epoch, "serial": self.serial, "seq": self.seq,
            "generation": self.generation, "version": self.version, "per_user": self.per_user,
            "per_device": self.per_device, "outbox_max": self.outbox_max,
            "rounds": len(self.rounds), "watermark": self.watermark,
        }  # fmt: skip
        return {
            "schema": "1", "run": self.run, "status": self.status,
            "operation": self.operation, "definition": "{}", "holes": self.holes,
            **{name: str(n) for name, n in numbers.items()},
        }  # fmt: skip

    def round_rows(self) -> list[dict[str, str]]:
        return [
            {
                "opens_at": str(r.opens_at), "closes_at": str(r.closes_at),
                "quota": str(r.quota), "left": str(self.left(n)),
                "granted": str(self.granted(n)), "returned": str(self.given_back(n)),
            }
            for n, r in enumerate(self.rounds, 1)
        ]  # fmt: skip

    def outbox_rows(self) -> list[list[str | list[str]]]:
        return [
            [
                f"{e.last_seq}-0",
                [
                    "first", str(e.last_seq - len(e.facts) + 1), "epoch", str(self.epoch),
                    "at_ms", str(e.at_ms), "facts", ";".join(e.facts),
                ],
            ]
            for e in self.outbox
        ]  # fmt: skip
