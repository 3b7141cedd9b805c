"""What wrk printed, read."""

import pytest

from bench import wrk
from bench.processes import BadRun

FIGURES = (
    'figures {"requests":34512,"micros":2004321,"refused":3,"broken":1,"exhausted":0,'
    '"p50_us":3512,"p99_us":9120}'
)


def test_the_line_of_drive_lua_is_read_among_wrks_own() -> None:
    """The figures stand between the lines that wrk prints by itself."""
    output = f"Running 2s test @ http://127.0.0.1:1\n  34512 requests in 2.00s\n{FIGURES}\n"
    assert wrk.parse(output) == wrk.Figures(
        requests=34512, seconds=2.004321, refused=3, broken=1, p50_us=3512, p99_us=9120
    )


def test_output_without_figures_is_a_bad_run() -> None:
    """Where the script printed nothing, its words are in the error."""
    with pytest.raises(BadRun, match="unable to connect"):
        wrk.parse("unable to connect to 127.0.0.1:1")


def test_used_up_requests_are_a_bad_run() -> None:
    """Past the last pass the same user would grab again, which measures another workload."""
    with pytest.raises(BadRun, match="write more"):
        wrk.parse(FIGURES.replace('"exhausted":0', '"exhausted":1'))


def test_a_machine_without_wrk_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmark can say what to install before it starts anything."""
    monkeypatch.setenv("PATH", "/nonexistent")
    assert not wrk.available()
