"""W4: the generator of arrivals and what is held against it."""

from pathlib import Path
from typing import Any

import pytest

from bench import arrivals
from bench.passes import Blake2Passes
from bench.systems.system import System
from tests.bench.conftest import Serve

RATE = 2000
USERS = 200


@pytest.mark.xdist_group("go")
def test_a_crowd_is_answered_and_counted(serve: Serve, tmp_path: Path) -> None:
    """200 users who come twice for 50 coupons: 50 grants, and nobody without an answer."""
    if why := arrivals.missing():
        pytest.skip(why)
    with serve("flashgrab", 50) as server:
        file = arrivals.draw(tmp_path, blake2s(server.system), town=1000, users=USERS)
        seen = arrivals.drive(f"127.0.0.1:{server.port}", file, RATE, ())
    assert (seen["sent"], seen["answered"], seen["broken"]) == (2 * USERS, 2 * USERS, 0)
    statuses = seen["statuses"]
    assert statuses["201"] == statuses["200"] == 50
    assert sum(statuses.values()) == 2 * USERS
    assert 0 < seen["p50_us"] <= seen["p99_us"] <= seen["max_us"]


def test_every_drawn_user_arrives_twice_with_one_key(tmp_path: Path) -> None:
    """Drawn without putting back, in no order."""
    lines = arrivals.draw(tmp_path, Blake2Passes(), town=100, users=20).read_text().splitlines()
    arrived = list(zip(lines[::2], lines[1::2], strict=True))
    assert len(arrived) == 40
    assert all(arrived.count(pair) == 2 for pair in arrived)
    assert len({token for token, _ in arrived}) == len({key for _, key in arrived}) == 20


def figures(**other: Any) -> dict[str, Any]:
    return {
        "sent": 40_000,
        "answered": 40_000,
        "statuses": {"201": 10_000, "200": 10_000, "409": 20_000},
        "late": 0,
        "waited": 0,
        "late_max_us": 900,
        "micros": 10_000_000,
        "cpu_micros": 400_000,
        "p50_us": 2000,
        "p99_us": 9000,
        "max_us": 20_000,
    } | other


@pytest.mark.parametrize(
    "other,missed",
    [
        ({}, []),
        ({"answered": 39_990}, ["10 without an answer"]),
        ({"statuses": {"201": 10_000, "503": 30_000}}, ["answers [503]"]),
        ({"statuses": {"201": 9_999, "409": 30_001}}, ["9999 granted"]),
        ({"p99_us": 250_000}, ["p99 250 ms"]),
    ],
)
def test_a_run_misses_by_name(other: dict[str, Any], missed: list[str]) -> None:
    """Each of W4's targets by itself."""
    row = arrivals.judge("here", 4000, 90_000, figures(**other))
    assert row["missed"] == missed
    assert row["ok"] is (not missed)


def blake2s(system: System) -> Blake2Passes:
    assert isinstance(system.passes, Blake2Passes)
    return system.passes
