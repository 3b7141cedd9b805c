"""The controller of admission on a simulated queue and store (plant.py)."""

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.admission import Standing
from tests.gateway.plant import INTERVAL_MS, QUEUE_MAX, WAIT_MS, Plant, Store

STORE = Store(call_ms=4, per_ms=4, batch_max=100)  # 3,448/s

stores = st.builds(
    Store,
    call_ms=st.integers(1, 150),
    per_ms=st.integers(1, 20),
    batch_max=st.integers(8, 600),
)
few = settings(max_examples=25, deadline=None)


def bound_ms(store: Store) -> int:
    """How long a grab that was taken in may be under way: the wait aimed at with a fifth for what
    a look behind brings, or the calls that must be full, and its own."""
    return max(WAIT_MS * 6 // 5, 3 * store.took_ms(store.batch_max)) + 2 * store.took_ms(
        store.batch_max
    )


def test_a_delay_stands_only_when_it_is_never_short() -> None:
    """One short look in between, and it begins anew."""
    standing = Standing(WAIT_MS, INTERVAL_MS)
    assert not any(standing.sees(WAIT_MS, at) for at in range(0, INTERVAL_MS, 20))
    assert standing.sees(WAIT_MS, INTERVAL_MS)
    assert not standing.sees(WAIT_MS - 1, INTERVAL_MS + 20)
    assert not standing.sees(WAIT_MS, INTERVAL_MS + 40)
    assert not standing.sees(WAIT_MS, 2 * INTERVAL_MS + 20)
    assert standing.sees(WAIT_MS, 2 * INTERVAL_MS + 40)


def test_a_step_to_three_times_the_capacity_and_back() -> None:
    """Before and after nobody is turned away; meanwhile as many are decided as ever could be, in
    the wait that is aimed at, which without the controller is not kept."""
    plant, alone = Plant(STORE), Plant(STORE, controlled=False)
    assert sum(s.shed for s in plant.run(2, STORE.capacity * 8 // 10)) == 0
    over = plant.run(8, STORE.capacity * 3)
    settled = over[3:]
    assert min(s.decided for s in over) >= STORE.capacity * 95 // 100
    assert max(w for s in settled for w in s.waits) <= bound_ms(STORE)
    assert all(s.shed > s.decided for s in settled)
    after = plant.run(3, STORE.capacity * 8 // 10)
    assert sum(s.shed for s in after[1:]) == 0
    assert plant.limit == QUEUE_MAX
    uncontrolled = alone.run(8, STORE.capacity * 3)
    assert min(uncontrolled[-1].waits) > 10 * WAIT_MS


def test_a_store_that_becomes_slow_and_recovers() -> None:
    """The bound follows it down and up again; what it can do is done all the time."""
    plant = Plant(STORE)
    rate = STORE.capacity * 9 // 10
    plant.run(2, rate)
    slow = Store(call_ms=120, per_ms=4, batch_max=100)
    plant.store = slow
    behind = plant.run(8, rate)
    assert min(s.decided for s in behind[1:]) >= slow.capacity * 9 // 10
    stood = 4  # seconds until it has decided what came while nobody had noticed
    assert max(w for s in behind[stood:] for w in s.waits) <= bound_ms(slow)
    plant.store = STORE
    again = plant.run(4, rate)
    assert sum(s.shed for s in again[2:]) == 0
    assert again[-1].decided >= rate * 95 // 100


@few
@given(stores, st.integers(0, 400), st.integers(1, 8))
def test_bursts_and_what_can_be_served_are_never_shed(
    store: Store, burst_ms: int, tenths: int
) -> None:
    """The opening second of a healthy machine: a crowd at once, gone after up to 0.4 s although
    up to eight tenths of what can be decided go on arriving."""
    plant = Plant(store)
    steady = store.capacity * tenths // 10
    burst = min((store.capacity - steady) * burst_ms // 1000, QUEUE_MAX // 2)
    seconds = plant.run(3, lambda at: burst * 1000 if at == 0 else steady)
    assert sum(s.shed for s in seconds) == 0


@few
@given(stores, st.integers(15, 60))
def test_no_overload_starves_or_swings(store: Store, tenths: int) -> None:
    """At 1.5 to 6 times the capacity of any store: as much is decided as by full calls alone, the
    wait is bounded, and the limit stays where it is."""
    plant = Plant(store)
    drained_s = 8  # what came while nobody had noticed: 0.7 s of six times the capacity
    over = plant.run(drained_s + 4, store.capacity * tenths // 10)
    settled = over[drained_s:]
    limits = [limit for s in settled for limit in s.limits]
    decided = sum(s.decided for s in settled)
    assert decided + store.batch_max >= 4 * store.capacity * 9 // 10
    assert max(w for s in settled for w in s.waits) <= bound_ms(store)
    assert max(limits) <= 2 * min(limits)
    assert sum(s.offered for s in settled) > decided
