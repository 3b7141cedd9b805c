"""A labelled crowd that asks for passes before an opening: people of several kinds, and what is
not people. Rules are tuned on some sets of parameters and judged by another."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gateway.risk.signals import HOUR_MS, Asked

START_MS = 1_800_000_000_000
DAY_MS = 24 * HOUR_MS

CHROME = ("host", "connection", "content-length", "sec-ch-ua", "authorization", "user-agent",
          "accept", "origin", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest", "referer",
          "accept-encoding", "accept-language", "cookie")  # fmt: skip
FIREFOX = ("host", "user-agent", "accept", "accept-language", "accept-encoding", "referer",
           "authorization", "origin", "connection", "cookie", "sec-fetch-dest", "sec-fetch-mode",
           "sec-fetch-site", "content-length")  # fmt: skip
SAFARI = ("host", "accept", "authorization", "sec-fetch-site", "accept-language",
          "accept-encoding", "sec-fetch-mode", "origin", "user-agent", "connection",
          "content-length", "sec-fetch-dest", "referer")  # fmt: skip
IN_APP = ("host", "connection", "user-agent", "accept", "origin", "x-requested-with",
          "accept-encoding", "accept-language")  # fmt: skip
"""A browser inside another app: it leaves out one field of ours."""
STRIPPED = ("host", "user-agent", "accept", "accept-encoding", "authorization")
"""Behind a filter that takes out what could tell somebody apart."""
REQUESTS = ("host", "user-agent", "accept-encoding", "accept", "connection", "authorization")
GO = ("host", "user-agent", "content-length", "authorization", "accept-encoding")
LIBRARIES = (REQUESTS, GO, ("host", "accept", "accept-encoding", "user-agent", "authorization"))


@dataclass(frozen=True)
class Parameters:
    """Counts are of people, accounts, devices or blocks; shares are parts of one."""

    seed: int
    minutes: int
    # people
    home: int
    offices: tuple[int, ...]  # people in each
    carriers: tuple[int, ...]  # people behind each IPv4 /24
    mobile6: int  # each with an IPv6 /64
    young: float
    no_page: float  # came by a link into the middle, or something blocked the field
    in_app: float
    stripped: float
    family: float  # share their device
    family_sizes: tuple[int, ...]
    dwell_ms: int  # median between page and request
    dwell_spread: float
    repeats: float  # ask again, after a pause of their own
    # scripts
    script_accounts: int
    script_blocks: int
    script_young: float
    script_residential: float
    script_copies_head: float
    script_fetches_page: float
    script_asks: int
    script_jitter: float
    # farms
    farm_devices: int
    farm_accounts: tuple[int, int]
    farm_young: float
    farm_on_carrier: float
    farm_dwell_ms: int
    # those that do everything as people do
    careful: int


TUNING = Parameters(
    seed=1, minutes=10,
    home=9000, offices=(40, 80, 120, 250), carriers=(400, 900, 1600, 2500), mobile6=3000,
    young=0.03, no_page=0.015, in_app=0.05, stripped=0.005, family=0.03,
    family_sizes=(2, 2, 3),
    dwell_ms=7000, dwell_spread=0.9, repeats=0.15,
    script_accounts=1500, script_blocks=12, script_young=0.7, script_residential=0.2,
    script_copies_head=0.4, script_fetches_page=0.4, script_asks=4, script_jitter=0.02,
    farm_devices=120, farm_accounts=(8, 40), farm_young=0.6, farm_on_carrier=0.3,
    farm_dwell_ms=1500, careful=150,
)  # fmt: skip
TUNING_2 = Parameters(
    seed=2, minutes=7,
    home=7000, offices=(25, 60, 150, 180, 400), carriers=(300, 700, 1200, 3200, 1500),
    mobile6=4000,
    young=0.05, no_page=0.022, in_app=0.08, stripped=0.008, family=0.045,
    family_sizes=(2, 2, 2, 2, 2, 3, 3, 3, 4),
    dwell_ms=5000, dwell_spread=1.0, repeats=0.22,
    script_accounts=2000, script_blocks=20, script_young=0.6, script_residential=0.3,
    script_copies_head=0.5, script_fetches_page=0.5, script_asks=3, script_jitter=0.04,
    farm_devices=180, farm_accounts=(6, 30), farm_young=0.5, farm_on_carrier=0.4,
    farm_dwell_ms=2200, careful=220,
)  # fmt: skip

"""Was the first test set, and seen: the rules were mended after it."""
TEST = Parameters(
    seed=20_261_123, minutes=8,
    home=8000, offices=(30, 70, 110, 200, 330), carriers=(250, 600, 1000, 1900, 2800),
    mobile6=3500,
    young=0.045, no_page=0.02, in_app=0.1, stripped=0.006, family=0.04,
    family_sizes=(2, 2, 2, 2, 3, 3, 4),
    dwell_ms=6000, dwell_spread=0.95, repeats=0.18,
    script_accounts=1800, script_blocks=16, script_young=0.65, script_residential=0.25,
    script_copies_head=0.6, script_fetches_page=0.6, script_asks=5, script_jitter=0.08,
    farm_devices=150, farm_accounts=(5, 35), farm_young=0.55, farm_on_carrier=0.35,
    farm_dwell_ms=1800, careful=180,
)  # fmt: skip
"""Never looked at while a rule was written."""


@dataclass(frozen=True)
class Labelled:
    """One request, and what sent it."""

    asked: Asked
    kind: str
    is_person: bool


class Crowd:
    """Makes all requests of one set of parameters, in the order of their times."""

    def __init__(self, parameters: Parameters) -> None:
        self._p = parameters
        self._random = random.Random(parameters.seed)
        self._span_ms = parameters.minutes * 60_000
        self._users = 0
        self._carriers = [self._block() for _ in parameters.carriers]

    def requests(self) -> Sequence[Labelled]:
        made = [*self._people(), *self._scripts(), *self._farms(), *self._careful()]
        return sorted(made, key=lambda labelled: labelled.asked.now_ms)

    # -- people ------------------------------------------------------------------------------------

    def _people(self) -> Iterator[Labelled]:
        p, pick = self._p, self._random
        homes = [self._in(self._block()) for _ in range(p.home)]
        yield from self._households("home", p.home, homes)
        mobiles = [self._address6() for _ in range(p.mobile6)]
        yield from self._households("mobile IPv6", p.mobile6, mobiles)
        for size in p.offices:  # all behind one address
            yield from self._households("office", size, [self._in(self._block())])
        for block, size in zip(self._carriers, p.carriers, strict=True):
            one_of = [self._in(block) for _ in range(pick.randint(1, 60))]
            yield from self._households("carrier NAT", size, one_of)

    def _households(self, kind: str, people: int, at: Sequence[str]) -> Iterator[Labelled]:
        left = people
        while left > 0:
            shares = self._random.random() < self._p.family
            device, address = self._device(), self._random.choice(at)
            for _ in range(min(left, self._random.choice(self._p.family_sizes) if shares else 1)):
                yield from self._person(kind, device, address)
                left -= 1

    def _person(self, kind: str, device: str, address: str) -> Iterator[Labelled]:
        p, pick = self._p, self._random
        user, created_ms = self._user(), self._created(p.young)
        draw = pick.random()
        head: Sequence[str] = pick.choice((CHROME, CHROME, FIREFOX, SAFARI))
        if draw < p.in_app:
            head = IN_APP
        elif draw < p.in_app + p.stripped:
            head = STRIPPED
        has_page = pick.random() >= p.no_page
        page_ms = self._moment()
        now_ms = page_ms + self._dwell(p.dwell_ms)
        while True:
            yield self._asked(
                kind, True, user, device, address, head, created_ms,
                page_ms if has_page else None, now_ms,
            )  # fmt: skip
            if pick.random() >= p.repeats:
                return
            now_ms += 800 + int(pick.expovariate(1 / 9000))

    # -- what is not people ------------------------------------------------------------------------

    def _scripts(self) -> Iterator[Labelled]:
        """Each script runs many accounts, at an even pace."""
        p, pick = self._p, self._random
        blocks = [self._block() for _ in range(p.script_blocks)]
        for number in range(p.script_accounts):
            home = pick.random() < p.script_residential
            address = self._in(self._block() if home else pick.choice(blocks))
            copies, fetches = (
                pick.random() < share for share in (p.script_copies_head, p.script_fetches_page)
            )
            head = pick.choice((CHROME, FIREFOX)) if copies else pick.choice(LIBRARIES)
            user, created_ms = self._user(), self._created(p.script_young)
            device = self._device() if number % 3 else ""
            page_ms = self._moment()
            now_ms = page_ms + pick.randint(20, 400)
            pause_ms = pick.randint(1000, 20_000)
            for _ in range(pick.randint(1, 2 * p.script_asks - 1)):
                yield self._asked(
                    "script", False, user, device, address, head, created_ms,
                    page_ms if fetches else None, now_ms,
                )  # fmt: skip
                now_ms += int(pause_ms * (1 + pick.uniform(-p.script_jitter, p.script_jitter)))
                page_ms = now_ms - pick.randint(20, 400)

    def _farms(self) -> Iterator[Labelled]:
        """Real phones with real browsers, one account after the other on each."""
        p, pick = self._p, self._random
        blocks = [self._block() for _ in range(max(1, p.farm_devices // 30))]
        for _ in range(p.farm_devices):
            carrier = pick.random() < p.farm_on_carrier
            address = self._in(pick.choice(self._carriers if carrier else blocks))
            device, head = self._device(), pick.choice((CHROME, SAFARI))
            now_ms = self._moment()
            for _ in range(pick.randint(*p.farm_accounts)):
                dwell_ms = int(p.farm_dwell_ms * pick.uniform(0.7, 1.5))
                yield self._asked(
                    "farm", False, self._user(), device, address, head,
                    self._created(p.farm_young), now_ms - dwell_ms, now_ms,
                )  # fmt: skip
                now_ms += dwell_ms + pick.randint(1000, 8000)

    def _careful(self) -> Iterator[Labelled]:
        """Aged accounts, a device and a home address each, a browser, and patience."""
        for _ in range(self._p.careful):
            page_ms = self._moment()
            yield self._asked(
                "careful", False, self._user(), self._device(), self._in(self._block()), CHROME,
                self._created(0.1), page_ms, page_ms + self._dwell(self._p.dwell_ms),
            )  # fmt: skip

    # -- parts -------------------------------------------------------------------------------------

    def _asked(
        self, kind: str, is_person: bool, user: str, device: str, address: str,
        head: Sequence[str], created_ms: int, page_ms: int | None, now_ms: int,
    ) -> Labelled:  # fmt: skip
        asked = Asked(user, device, address, head, created_ms, page_ms, now_ms)
        return Labelled(asked, kind, is_person)

    def _user(self) -> str:
        self._users += 1
        return f"u{self._users}"

    def _device(self) -> str:
        return f"d{self._random.getrandbits(64):x}"

    def _block(self) -> str:
        pick = self._random
        return f"{pick.randint(11, 190)}.{pick.randint(0, 255)}.{pick.randint(0, 255)}"

    def _in(self, block: str) -> str:
        return f"{block}.{self._random.randint(1, 254)}"

    def _address6(self) -> str:
        words = [f"{self._random.getrandbits(16):x}" for _ in range(7)]
        return "2a01:" + ":".join(words)

    def _created(self, young: float) -> int:
        pick = self._random
        if pick.random() < young:
            return START_MS - pick.randint(0, 40 * HOUR_MS)
        return START_MS - pick.randint(3 * DAY_MS, 1500 * DAY_MS)

    def _moment(self) -> int:
        """More and more towards the opening."""
        return START_MS + int(self._span_ms * self._random.random() ** 0.6)

    def _dwell(self, median_ms: int) -> int:
        return max(350, int(median_ms * self._random.lognormvariate(0, self._p.dwell_spread)))
