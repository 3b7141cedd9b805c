"""`flashgrab top`: its lines, and a watch over a whole stack."""

import json
import signal
from itertools import pairwise
from pathlib import Path

import pytest

from flashgrab.cli import top
from flashgrab.cli.app import main
from flashgrab.cli.readings import Line
from flashgrab.clock import from_rfc3339
from flashgrab.outcomes import Outcome
from tests.cli.metrics_server import metrics_server
from tests.e2e.running import Stack, simple

QUIET = Line({}, None, None, None, None, None, None, ())
BUSY = Line(
    {"GRANTED": 1234.4, "DEVICE_LIMIT": 1.0, "USER_LIMIT": 2.0, "PASS_INVALID": 3.0, "BUSY": 4.0},
    0.5, 12.34, 1000, 3, 7, True, (),
)  # fmt: skip


def test_columns_name_outcomes_of_the_closed_list() -> None:
    """No column waits for an outcome that cannot come."""
    named = {outcome for some in top.COLUMNS.values() for outcome in some}
    assert named <= set(Outcome.__members__)


def test_a_line_shows_each_number_under_its_name() -> None:
    """Every cell ends where its heading ends."""
    head, line = top.header(), top.row(BUSY, [])
    cells = dict(zip(head.split()[1:], line.split()[1:], strict=False))
    assert cells["grabs/s"] == "1,244"
    assert line.split()[1:] == [
        "1,244", "1,234", "0", "3", "0", "0", "4", "3", "0.5", "12.3", "1,000", "3", "7", "ok",
    ]  # fmt: skip
    for name in ("grabs/s", "granted", "lag"):
        end = head.index(name) + len(name)
        assert line[end - 1].isdigit()
        assert line[end : end + 1] in ("", " ")


def test_what_nobody_knows_is_a_dash() -> None:
    """And the parts that do not answer are named."""
    line = top.row(QUIET, ["relay", "worker"])
    assert line.split()[9:] == ["-", "-", "-", "-", "-", "-", "no", "relay,", "worker"]


def test_broken_books_are_named() -> None:
    """The first three of them."""
    broken = ("c1 I1", "c1 I5", "c2 I4", "c3 I4")
    line = top.row(Line({}, None, None, 0, 0, 0, False, broken), [])
    assert line.endswith("BROKEN c1 I1, c1 I5, c2 I4")


def test_the_json_has_every_outcome_by_its_name() -> None:
    """Nothing is summed up into columns there."""
    found = json.loads(top.as_json(BUSY, ["centre"]))
    assert found["grabs_per_second"] == {k: pytest.approx(v) for k, v in BUSY.grabs.items()}
    assert {k: found[k] for k in ("p50_ms", "left", "outbox", "lag", "books_ok", "silent")} == {
        "p50_ms": 0.5, "left": 1000, "outbox": 3, "lag": 7, "books_ok": True, "silent": ["centre"],
    }  # fmt: skip


def test_nothing_running_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2 where there is nothing to watch."""
    assert main(["top", "--count", "1", "--data", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert (said.out, len(said.err.splitlines())) == ("", 1)


def run_json(folder: Path, **parts: str) -> None:
    """A run.json with these metrics addresses."""
    shown = {name: [{"pid": 1, "metrics": url}] for name, url in parts.items()}
    (folder / "run.json").write_text(json.dumps(shown))


def test_broken_books_are_bad_news(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 1 when the last line finds an invariant broken; a header comes every 20 lines."""
    text = 'flashgrab_invariant_ok{campaign="c1",invariant="I5"} 0.0\n'
    with metrics_server(lambda: text) as url:
        run_json(tmp_path, worker=url)
        words = ["--count", "21", "--interval", "0.1", "--data", str(tmp_path)]
        assert main(["top", *words]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [n for n, line in enumerate(lines) if line.startswith("time ")] == [0, 21]
    assert all("BROKEN c1 I5" in line for line in lines if not line.startswith("time "))


def test_parts_may_come_and_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An answer that is nonsense, a part that is gone, a run.json that is gone: it goes on."""
    good, nonsense = 'flashgrab_left{campaign="c",round="1"} 5.0\n', "flashgrab_left{campaign="
    answers = [good, good, nonsense]

    def answer() -> str:
        text = answers.pop(0)
        if not answers:
            (tmp_path / "run.json").unlink()
        return text

    with metrics_server(answer) as url:
        run_json(tmp_path, gateway=url, relay="http://127.0.0.1:9/metrics")
        words = ["--count", "3", "--interval", "0.2", "--json", "--data", str(tmp_path)]
        assert main(["top", *words]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["left"] for line in lines] == [5, None, None]
    assert lines[0]["silent"] == ["relay", "worker", "centre"]
    assert lines[2]["silent"] == ["gateway", "relay", "worker", "centre"]


@pytest.mark.xdist_group("stack")
def test_a_sale_is_seen_in_top(running_stack: Stack) -> None:
    """While a crowd grabs: grants and refusals a second, latencies, and books that are ok; Ctrl-C
    ends it with exit 0."""
    campaign_id = running_stack.campaign(simple("watched", quota=60))
    watch = running_stack.begin("top", "--campaign", campaign_id, "--interval", "0.5", "--json")
    assert watch.stdout is not None
    first = watch.stdout.readline()
    words = ("rehearse", "--campaign", campaign_id, "--buyers", "120", "--pace", "80")
    crowd = running_stack.command(*words)
    assert crowd.returncode == 0, crowd.stderr + crowd.stdout
    watch.send_signal(signal.SIGINT)
    out, err = watch.communicate(timeout=60)
    assert (watch.returncode, err) == (0, "")
    lines = [json.loads(line) for line in [first, *out.splitlines()]]
    seen = {name for line in lines for name, rate in line["grabs_per_second"].items() if rate}
    assert {"GRANTED", "REPLAYED", "SOLD_OUT"} <= seen
    assert any(line["p99_ms"] for line in lines)
    assert lines[-1]["silent"] == []
    assert {line["books_ok"] for line in lines} <= {True, None}
    granted = sum(
        later["grabs_per_second"].get("GRANTED", 0)
        * (from_rfc3339(later["at"]) - from_rfc3339(earlier["at"]))
        / 1000
        for earlier, later in pairwise(lines)
    )
    assert 45 <= granted <= 75  # of 60; the rates are of intervals that are not quite ours
