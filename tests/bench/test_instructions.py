"""Instructions a request."""

import pytest

from bench.instructions import slope
from bench.processes import BadRun
from bench.wrk import Figures


def seen(requests: int, seconds: float) -> Figures:
    return Figures(requests, seconds, 0, 0, 1, 1)


def test_connections_and_the_heartbeat_fall_out() -> None:
    """20,000 a request, 5 million for connecting, 1 million a second with or without requests."""
    short = (seen(1000, 2.0), 1000 * 20_000 + 5_000_000 + 2_000_000)
    long = (seen(3000, 6.0), 3000 * 20_000 + 5_000_000 + 6_000_000)
    assert slope(1_000_000, short, long) == 20_000


def test_too_few_requests_count_nothing() -> None:
    """On a machine that is too busy for valgrind the rest would be noise."""
    with pytest.raises(BadRun, match="too few"):
        slope(0, (seen(100, 2.0), 1), (seen(150, 6.0), 2))
