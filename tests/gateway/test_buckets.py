"""The buckets of a process: GCRA in a bounded table, against an exact log."""

from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from flashgrab.limits import NOWHERE, of_grabs
from gateway.buckets import FORGET_EACH, Buckets
from gateway.ratelimit import REFUSED


class Hands:
    """A clock (ns) that a test turns."""

    now = 10**15

    def __call__(self) -> int:
        return self.now


def buckets(counters_max: int = 1000) -> tuple[Buckets, Hands]:
    made, hands = Buckets(counters_max), Hands()
    made.clock = hands
    return made, hands


@settings(max_examples=200, deadline=None)
@given(
    burst=st.integers(1, 50),
    window_s=st.integers(1, 20),
    waits_ms=st.lists(st.integers(0, 900), max_size=80),
)
def test_never_more_than_the_rate_and_nobody_below_it_refused(
    burst: int, window_s: int, waits_ms: list[int]
) -> None:
    """As by a log of all that was counted, but for the ns that a step is cut by."""
    made, hands = buckets()
    policies = of_grabs("x", {"user": f"{burst}/{window_s}s"})
    assert policies is not None
    counted: list[int] = []
    for wait_ms in waits_ms:
        hands.now += wait_ms * 1_000_000
        verdict = made.take(policies, policies.names(b"u", b"", NOWHERE))
        over = max(
            (
                len(counted) - n + 1 - burst - Fraction(burst * (hands.now - at), window_s * 10**9)
                for n, at in enumerate(counted)
            ),
            default=Fraction(0),
        )
        if verdict.left == REFUSED:
            assert over > 0
        else:
            assert over < Fraction(1, 1000)
            counted.append(hands.now)


def test_refused_it_is_counted_nowhere() -> None:
    """The campaign's bucket refuses: the user's has as much as before."""
    made, hands = buckets()
    policies = of_grabs("x", {"user": "2/10s", "campaign": "1/1s"})
    assert policies is not None
    ann, bob = (policies.names(user, b"", NOWHERE) for user in (b"ann", b"bob"))
    assert made.take(policies, bob).left == 0
    for _ in range(5):
        verdict = made.take(policies, ann)
        assert (verdict.left, verdict.wait_us) == (REFUSED, 1_000_000)
        assert verdict.policy is policies.policies[1]
    hands.now += 1_000_000_000
    assert made.take(policies, ann).left == 0
    hands.now += 1_000_000_000
    verdict = made.take(policies, ann)
    assert (verdict.left, verdict.policy) == (0, policies.policies[0])


def test_what_the_script_refuses_stays_refused_as_long() -> None:
    """Until the moment that it named, and not longer, whether the script counts or this table."""
    made, hands = buckets()
    policies = of_grabs("x", {"user": "5/10s"})
    assert policies is not None
    names = policies.names(b"u", b"", NOWHERE)
    assert made.refusal(policies, names) is None
    assert len(made) == 0
    made.refuse_until(policies, names, 0, 700_000)
    for _ in range(100):
        assert made.take(policies, names).wait_us == 700_000
        assert made.refusal(policies, names) == made.take(policies, names)
    assert made.refusal(policies, policies.names(b"other", b"", NOWHERE)) is None
    hands.now += 700_000_000 - 1
    assert made.take(policies, names).left == REFUSED
    assert made.refusal(policies, names) is not None
    hands.now += 1
    assert made.refusal(policies, names) is None
    assert made.take(policies, names).left == 0


def test_what_is_over_is_forgotten() -> None:
    """A counter whose whole rate is free again leaves the table when it is asked about."""
    made, hands = buckets()
    policies = of_grabs("x", {"user": "5/10s"})
    assert policies is not None
    names = policies.names(b"u", b"", NOWHERE)
    made.refuse_until(policies, names, 0, 700_000)
    hands.now += 20_000_000_000
    assert made.refusal(policies, names) is None
    assert len(made) == 0


def test_the_table_is_bounded() -> None:
    """Past its bound the oldest are forgotten."""
    made, _ = buckets(counters_max=2 * FORGET_EACH)
    policies = of_grabs("x", {"user": "1/1h"})
    assert policies is not None
    for number in range(5 * FORGET_EACH):
        assert made.take(policies, [b"%d" % number]).left == 0
        assert len(made) <= 2 * FORGET_EACH
    assert made.take(policies, [b"%d" % (5 * FORGET_EACH - 1)]).left == REFUSED
