"""What `up` says when everything runs and when it has stopped."""

import asyncio
import re
import time
from pathlib import Path

from flashgrab.cli.banner import Countdown, Demo, Kept, banner, opening, program_name, stopped

DEMO = Demo("demo-1", 1030.0, 100)


def said(**changes: object) -> list[str]:
    known = {
        "gateway": "http://127.0.0.1:8000",
        "centre": "http://127.0.0.1:8001",
        "metrics": "http://127.0.0.1:20652/metrics",
        "sign_in": "http://127.0.0.1:8001/ops#fgl_x",
        "folder": Path(".flashgrab").resolve(),
        "took_s": 2.34,
        "demo": DEMO,
        "now_s": 1000.0,
    }
    return banner(**{**known, **changes})  # type: ignore[arg-type]


def test_addresses_by_role_and_what_to_try() -> None:
    """Each is there once, aligned, and the commands can be typed as they stand."""
    lines = said()
    rows = {line.split()[0]: line for line in lines if re.match("  [A-Z]", line)}
    assert "http://127.0.0.1:8000/c/demo-1" in rows["Buyer"]
    assert "a demo campaign opens in 30 s: 100 coupons" in rows["Buyer"]
    assert rows["Ops"].endswith("the next line signs you in, once, within 10 minutes")
    assert lines[lines.index(rows["Ops"]) + 1] == "           http://127.0.0.1:8001/ops#fgl_x"
    assert "http://127.0.0.1:8000/docs" in rows["Docs"]
    assert "http://127.0.0.1:20652/metrics" in rows["Metrics"]
    assert rows["State"].split()[1] == ".flashgrab"
    assert lines[1].endswith(", ready after 2.3 s")
    assert "  Try      flashgrab rehearse --campaign demo-1 --buyers 5000" in lines
    assert "           flashgrab top" in lines
    assert {line.find("http") for line in lines if "http" in line} == {11}


def test_another_folder_is_named_in_the_commands() -> None:
    """So that they speak to this stack."""
    lines = said(folder=Path("/srv/x"), demo=None, program=".venv/bin/flashgrab", sign_in=None)
    assert "           .venv/bin/flashgrab top --data /srv/x" in lines
    assert any("needs a sign-in" in line for line in lines)
    assert any("http://127.0.0.1:8000/ " in line for line in lines)


def test_the_name_of_the_program_is_the_one_that_works(tmp_path: Path) -> None:
    """As it was called, unless the shell finds the same one by its name."""
    called = tmp_path / "flashgrab"
    assert program_name([str(called)]).endswith("flashgrab")
    assert program_name([str(called)]) != "flashgrab"
    assert program_name(["/usr/lib/x/__main__.py"]) == "flashgrab"


def test_a_demo_that_is_open_is_said_to_be() -> None:
    """After a second `up` on the same folder."""
    assert opening(DEMO, 1031.0) == "the demo campaign is open"


def test_what_was_persisted() -> None:
    """All of it, or how much comes with the next start; nothing is claimed that nobody knows."""
    where = Path("/d")
    assert stopped(None, where) == ["state stays in /d"]
    assert stopped(Kept(2, 2100, 0), where)[0] == (
        "persisted: 2 campaigns, 2,100 coupons granted, all in the ledger"
    )
    assert "7 still in Valkey's log" in stopped(Kept(1, 100, 7), where)[0]
    assert stopped(Kept(1, 0, 0), where)[0] == "persisted: 1 campaign, nothing granted yet"


def test_the_countdown_is_one_line_and_others_go_above_it() -> None:
    """It ends by itself."""
    written: list[str] = []
    countdown = Countdown(written.append, Demo("demo-7", time.time() + 0.2, 1))
    assert countdown.above("x") == "x"

    async def run() -> None:
        task = asyncio.create_task(countdown.run())
        await asyncio.sleep(0)
        assert countdown.above("x") == "\r\x1b[Kx"
        await task

    asyncio.run(run())
    assert written[0].startswith("\r\x1b[Kdemo-7 opens in")
    assert written[-2:] == ["\r\x1b[K", "demo-7 is open: press the button\n"]


def test_the_readme_shows_what_one_sees() -> None:
    """Its transcript of `make run` has the lines of the banner, whatever the numbers."""
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    block = readme[readme.index("$ make run\n") :]
    shown = block[: block.index("\n```")].splitlines()

    def plain(line: str) -> str:
        line = re.sub(r"#fgl_\S+", "#fgl_x", line).replace(".venv/bin/flashgrab", "flashgrab")
        return " ".join(re.sub(r"\d+(\.\d+)*", "N", line).split())

    at = next(n for n, line in enumerate(shown) if ", ready after" in line) - 1
    expected = [plain(line) for line in said()]
    assert [plain(line) for line in shown[at : at + len(expected)]] == expected
    assert plain(shown[at + len(expected)]) == plain("ready gateway=http://127.0.0.1:8000"
                                                     " centre=http://127.0.0.1:8001")  # fmt: skip
    ticks = {line.split()[1] for line in shown if line.startswith("✓")}
    assert ticks >= {"valkey", "limiter", "kafka", "postgres", "gateway", "relay", "worker",
                     "centre"}  # fmt: skip
