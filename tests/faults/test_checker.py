"""The checker sees what is wrong: histories with one thing planted in each, and sound ones."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from tests.faults.checker import EACH_MAX, Kind, check, stale_refusals
from tests.faults.history import (
    Answer,
    Ask,
    Count,
    Fact,
    Final,
    GiveBack,
    History,
    Redis,
    Sample,
    Window,
)

GRANTS, QUOTA, OPENS, CLOSES = 6, 10, 1000, 9000


@dataclass
class World:
    """A sound run: six users hold a coupon each, the ledger has four, the outbox two."""

    history: History = field(default_factory=History)
    per_device: int = 1
    quota: int = QUOTA
    ledger: list[Fact] = field(default_factory=list)
    granted: list[Fact] = field(default_factory=list)
    outbox: list[Fact] = field(default_factory=list)
    seq: int = GRANTS
    watermark: int = GRANTS
    count: Count = field(default_factory=lambda: Count(QUOTA, QUOTA - GRANTS, GRANTS, 0))
    dead: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        for n in range(1, GRANTS + 1):
            self.ask(n, Answer.OK, "GRANTED", serial=n)
            fact = Fact(n, n, 1, f"u{n}", f"k{n}", f"d{n}", 2000)
            self.ledger.append(fact)
            self.granted.append(replace(fact, device="", at_ms=0))
        self.history.samples.append(Sample(2000, 3, (Count(QUOTA, QUOTA - 3, 3, 0),)))

    def ask(
        self, n: int, answer: Answer, code: str, *, key: str = "", at_ms: int = 0, **more: int
    ) -> None:
        """One attempt of user n, in the order of the calls unless `at_ms` says when."""
        began_ms = at_ms or 10 * len(self.history.asks) + 1
        serial = more.get("serial", 0)
        self.history.asks.append(
            Ask(
                f"u{n}",
                key or f"k{n}",
                more.get("gateway", 0),
                began_ms,
                began_ms + 5,
                answer,
                code,
                serial,
                "RETURNED" if "returned" in more else "GRANTED" if answer is Answer.OK else "",
                (more["named"],) if "named" in more else (),
                "final" in more,
            )
        )

    def give_back(self, serial: int, *, in_ledger: bool = True, in_redis: bool = True) -> None:
        """A return that was acknowledged, and where it is."""
        now_ms = 10 * len(self.history.asks)
        self.history.returns.append(GiveBack(serial, now_ms, now_ms, done=True))
        self.seq = self.watermark = self.seq + 1
        if in_ledger:
            self.change(serial, returned_seq=self.seq)
        if in_redis:
            grant = self.granted[serial - 1]
            self.granted[serial - 1] = replace(grant, returned_seq=-1)
        c = self.count
        self.count = Count(c.quota, c.left + 1, c.granted, c.returned + 1)

    def change(self, serial: int, **fields: object) -> None:
        """The ledger has something else of a serial."""
        row = self.ledger[serial - 1]
        self.ledger[serial - 1] = replace(row, **fields)  # type: ignore[arg-type]

    def more(self, n: int, user: str, key: str, device: str = "") -> None:
        """One more grant, in Redis and ledger alike."""
        self.ledger.append(Fact(n, n, 1, user, key, device, 2000))
        self.granted.append(Fact(n, n, 1, user, key))
        self.seq = self.watermark = n + self.count.returned
        self.count = Count(self.quota, self.count.left - 1, n, self.count.returned)

    @property
    def final(self) -> Final:
        return Final(
            per_user=1,
            per_device=self.per_device,
            rounds={1: Window(OPENS, CLOSES, self.quota)},
            ledger=self.ledger,
            redis=Redis(
                self.seq, self.seq, self.watermark, {1: self.count}, self.granted, self.outbox
            ),
            dead=self.dead,
        )

    def wrong(self) -> list[Kind]:
        return [violation.kind for violation in check(self.history, self.final)]


def _oversold(w: World) -> None:
    w.quota = GRANTS - 1
    w.count = Count(GRANTS - 1, -1, GRANTS, 0)


def _quota_differs(w: World) -> None:
    w.quota = QUOTA + 5


def _too_early(w: World) -> None:
    w.change(2, at_ms=OPENS - 1)


def _too_late(w: World) -> None:
    w.change(2, at_ms=CLOSES)


def _user_twice(w: World) -> None:
    w.more(7, "u1", "other", "d7")
    w.ask(1, Answer.OK, "GRANTED", key="other", serial=7)


def _device_twice(w: World) -> None:
    w.more(7, "u7", "k7", "d1")
    w.ask(7, Answer.OK, "GRANTED", serial=7)


def _key_twice(w: World) -> None:
    w.more(7, "u1", "k1")


def _two_serials(w: World) -> None:
    w.ask(1, Answer.OK, "GRANTED", serial=2)


def _winner_refused(w: World) -> None:
    w.ask(1, Answer.REFUSED, "SOLD_OUT")


def _not_found(w: World) -> None:
    w.ask(8, Answer.REFUSED, "CAMPAIGN_NOT_FOUND")


def _disagree(w: World) -> None:
    w.ask(8, Answer.UNKNOWN, "")
    w.more(7, "u8", "k8")
    w.ask(8, Answer.REFUSED, "SOLD_OUT", final=1, at_ms=900)
    w.ask(8, Answer.OK, "REPLAYED", serial=7, final=1, gateway=1, at_ms=901)


def _seq_hole(w: World) -> None:
    del w.granted[2], w.ledger[2], w.history.asks[2]
    w.count = Count(QUOTA, QUOTA - GRANTS + 1, GRANTS - 1, 0)


def _seq_twice(w: World) -> None:
    w.granted[3] = replace(w.granted[3], seq=3)


def _not_in_outbox(w: World) -> None:
    w.watermark = GRANTS - 1


def _missing_row(w: World) -> None:
    w.outbox.append(w.ledger.pop())
    w.watermark -= 1


def _extra_row(w: World) -> None:
    w.ledger.append(Fact(7, 7, 1, "u7", "k7"))
    w.ask(7, Answer.UNKNOWN, "")


def _wrong_owner(w: World) -> None:
    w.change(3, user="u9")
    w.ask(9, Answer.UNKNOWN, "", key="k3")


def _double_row(w: World) -> None:
    w.ledger.append(w.ledger[0])


def _dead_letter(w: World) -> None:
    w.dead.append(GRANTS)


def _unbalanced(w: World) -> None:
    w.count = Count(QUOTA, QUOTA - GRANTS + 1, GRANTS, 0)


def _unbalanced_once(w: World) -> None:
    w.history.samples.append(Sample(3000, 4, (Count(QUOTA, QUOTA - 3, 4, 0),)))


def _miscounted(w: World) -> None:
    w.count = Count(QUOTA, QUOTA - GRANTS + 1, GRANTS - 1, 0)


def _ack_lost(w: World) -> None:
    w.ask(7, Answer.OK, "GRANTED", serial=7)


def _ack_lost_named(w: World) -> None:
    w.ask(7, Answer.REFUSED, "USER_LIMIT", named=8)


def _crossed(w: World) -> None:
    w.ask(7, Answer.OK, "REPLAYED", serial=1)


def _crossed_named(w: World) -> None:
    w.ask(7, Answer.REFUSED, "USER_LIMIT", named=1)


def _never_asked(w: World) -> None:
    w.more(7, "u7", "k7")


def _refused_but_taken(w: World) -> None:
    w.ask(7, Answer.REFUSED, "SOLD_OUT")
    w.more(7, "u7", "k7")


def _return_untold(w: World) -> None:
    w.give_back(2)
    w.ask(2, Answer.OK, "REPLAYED", serial=2, at_ms=5000)


def _return_told_early(w: World) -> None:
    w.ask(2, Answer.OK, "REPLAYED", serial=2, returned=1)
    w.ask(3, Answer.OK, "REPLAYED", serial=3)
    w.give_back(2)


def _return_not_in_ledger(w: World) -> None:
    w.give_back(2, in_ledger=False)


def _return_not_in_redis(w: World) -> None:
    w.give_back(2, in_redis=False)


def _return_lost(w: World) -> None:
    w.history.returns.append(GiveBack(2, 1, 2, done=True))


def _never_returned(w: World) -> None:
    w.give_back(2)
    w.history.returns.clear()


def _held_before_the_return(w: World) -> None:
    w.more(7, "u1", "other", "d7")
    w.give_back(1)


def _returned_not_counted(w: World) -> None:
    w.give_back(2)
    w.count = Count(QUOTA, QUOTA - GRANTS, GRANTS, 0)


PLANTED: list[tuple[Callable[[World], None], Kind]] = [
    (_oversold, Kind.OVERSOLD),
    (_quota_differs, Kind.QUOTA_DIFFERS),
    (_too_early, Kind.OUTSIDE_WINDOW),
    (_too_late, Kind.OUTSIDE_WINDOW),
    (_user_twice, Kind.USER_OVER_LIMIT),
    (_device_twice, Kind.DEVICE_OVER_LIMIT),
    (_key_twice, Kind.KEY_TWICE),
    (_two_serials, Kind.TWO_SERIALS),
    (_winner_refused, Kind.WINNER_REFUSED),
    (_not_found, Kind.NOT_FOUND),
    (_disagree, Kind.DISAGREE),
    (_seq_hole, Kind.SEQ_HOLE),
    (_seq_twice, Kind.SEQ_TWICE),
    (_not_in_outbox, Kind.NOT_IN_OUTBOX),
    (_missing_row, Kind.MISSING_ROW),
    (_extra_row, Kind.EXTRA_ROW),
    (_wrong_owner, Kind.WRONG_ROW),
    (_double_row, Kind.DOUBLE_ROW),
    (_dead_letter, Kind.DEAD_LETTER),
    (_unbalanced, Kind.UNBALANCED),
    (_unbalanced_once, Kind.UNBALANCED),
    (_miscounted, Kind.MISCOUNTED),
    (_ack_lost, Kind.ACK_LOST),
    (_ack_lost_named, Kind.ACK_LOST),
    (_crossed, Kind.CROSSED),
    (_crossed_named, Kind.CROSSED),
    (_never_asked, Kind.NEVER_ASKED),
    (_refused_but_taken, Kind.REFUSED_BUT_TAKEN),
    (_return_untold, Kind.RETURN_UNTOLD),
    (_return_told_early, Kind.RETURN_UNTOLD),
    (_return_not_in_ledger, Kind.RETURN_DIFFERS),
    (_return_not_in_redis, Kind.RETURN_DIFFERS),
    (_return_lost, Kind.RETURN_LOST),
    (_never_returned, Kind.NEVER_RETURNED),
    (_held_before_the_return, Kind.USER_OVER_LIMIT),
    (_returned_not_counted, Kind.MISCOUNTED),
]


@pytest.mark.parametrize("plant,kind", PLANTED, ids=[plant.__name__ for plant, _ in PLANTED])
def test_a_planted_violation_is_found(plant: Callable[[World], None], kind: Kind) -> None:
    """Each broken history is called broken, and by its name."""
    world = World()
    plant(world)
    assert kind in world.wrong()


def test_every_kind_is_planted_once() -> None:
    """No kind of violation goes without a history that has it."""
    assert {kind for _, kind in PLANTED} == set(Kind)


def test_a_sound_run_is_sound() -> None:
    """Nothing planted, nothing found; the counters of a moment in the middle included."""
    assert World().wrong() == []


@pytest.mark.parametrize("taken", [False, True], ids=["nothing", "a coupon"])
def test_an_unknown_grab_may_or_may_not_have_happened(taken: bool) -> None:
    """No answer, or a 503, says neither: both ends are sound, also when a refusal came later."""
    world = World()
    world.ask(7, Answer.UNKNOWN, "")
    world.ask(7, Answer.UNKNOWN, "BACKEND_UNAVAILABLE")
    world.ask(7, Answer.REFUSED, "SOLD_OUT")
    if taken:
        world.more(7, "u7", "k7")
    assert world.wrong() == []


def test_a_refusal_under_way_while_the_grab_won_is_sound() -> None:
    """Two attempts with one key side by side: the loser of the two may have been first."""
    world = World()
    world.ask(1, Answer.REFUSED, "SOLD_OUT", at_ms=world.history.asks[0].began_ms)
    assert world.wrong() == []


@pytest.mark.parametrize(
    "gateway,after_ms,code,stale",
    [
        (1, 1000, "SOLD_OUT", True),
        (0, 1000, "SOLD_OUT", False),
        (1, 2500, "SOLD_OUT", False),
        (1, 1000, "ENDED", False),
    ],
    ids=["another gateway", "the same one", "too late", "no matter of stock"],
)
def test_old_memory_explains_little(gateway: int, after_ms: int, code: str, stale: bool) -> None:
    """Another gateway may say SOLD_OUT to a winner for 2 s; nothing else, nowhere, no longer."""
    world = World()
    won_ms = world.history.asks[0].ended_ms
    world.ask(1, Answer.REFUSED, code, gateway=gateway, at_ms=won_ms + after_ms)
    assert (world.wrong() == []) is stale
    assert len(stale_refusals(world.history)) == stale


def test_a_refused_key_may_win_later() -> None:
    """Only grants are remembered: after a restock the same key takes a coupon."""
    world = World()
    world.ask(7, Answer.REFUSED, "SOLD_OUT")
    world.ask(7, Answer.OK, "GRANTED", serial=7)
    world.more(7, "u7", "k7")
    assert world.wrong() == []


def test_what_waits_in_the_outbox_is_not_lost() -> None:
    """An acknowledged grab above the watermark is missing in the ledger, but it is not gone."""
    world = World()
    _missing_row(world)
    assert Kind.ACK_LOST not in world.wrong()


def test_without_redis_the_ledger_alone_answers() -> None:
    """A closed campaign is judged by the ledger and the answers; Redis' holes are no violation."""
    world = World()
    world.ledger.pop()
    world.history.samples.clear()
    final = replace(world.final, redis=None)
    assert [v.kind for v in check(world.history, final)] == [Kind.ACK_LOST]


def test_who_returned_may_win_again() -> None:
    """With another key; his old one says RETURNED, for a while perhaps not at every gateway."""
    world = World()
    world.give_back(1)
    world.ask(1, Answer.OK, "REPLAYED", serial=1)
    world.ask(1, Answer.OK, "REPLAYED", serial=1, returned=1, at_ms=5000)
    world.more(7, "u1", "other", "d1")
    world.ledger[6] = replace(world.ledger[6], seq=8)
    world.granted[6] = replace(world.granted[6], seq=8)
    world.ask(1, Answer.OK, "GRANTED", key="other", serial=7)
    assert world.wrong() == []


def test_a_return_that_nobody_acknowledged_may_have_happened() -> None:
    """Both ends are sound."""
    world = World()
    world.history.returns.append(GiveBack(2, 1, 2, done=False))
    assert world.wrong() == []
    world.give_back(2)
    assert world.wrong() == []


def test_many_violations_of_one_kind_do_not_hide_another() -> None:
    """Of each kind only so many are named."""
    world = World()
    world.dead += [GRANTS] * 500
    _ack_lost(world)
    wrong = world.wrong()
    assert wrong.count(Kind.DEAD_LETTER) == EACH_MAX
    assert Kind.ACK_LOST in wrong


def test_what_a_rebuild_may_cost_is_forgiven_and_no_more() -> None:
    """A lost acknowledgement within the report's bound is none of ours, also where its key won
    again; one beyond it, or told to two users, is."""
    world = World()
    _ack_lost(world)
    world.ask(7, Answer.OK, "GRANTED", serial=1007)
    granted = Fact(1007, 1007, 1, "u7", "k7", "", 0)
    world.granted.append(granted)
    world.ledger.append(replace(granted, at_ms=2000))
    world.seq = world.watermark = 1007
    world.count = Count(QUOTA, QUOTA - GRANTS - 1, GRANTS + 1, 0)
    voids = [(GRANTS + 1, 1006, 2)]
    final = replace(world.final, voids=voids, lost_max=1)
    assert final.redis is not None
    final = replace(final, redis=replace(final.redis, epoch=2))
    assert check(world.history, final) == []
    found = check(world.history, replace(final, lost_max=0))
    assert {v.kind for v in found} == {Kind.ACK_LOST, Kind.TWO_SERIALS}
    world.ask(8, Answer.OK, "GRANTED", serial=7)
    assert [v.kind for v in check(world.history, final)] == [Kind.CROSSED]
