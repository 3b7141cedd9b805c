"""`flashgrab pass mint`: passes signed without any network."""

import socket
import time
from pathlib import Path
from typing import NoReturn

import pytest

from flashgrab.cli.app import main
from flashgrab.cli.failure import Failure
from flashgrab.cli.passes import read_valid
from flashgrab.passes import Pass, PassKeys
from tests.e2e.running import Stack, simple

KEYS = "new:" + "n" * 40 + ",old:" + "o" * 40


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with secrets and nothing that runs; the network raises."""

    def no_network(*_: object) -> NoReturn:
        raise AssertionError("the network was touched")

    for name in ("FLASHGRAB_PASS_KEYS", "FLASHGRAB_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(socket.socket, "connect", no_network)
    (tmp_path / "secrets.env").write_text(f"FLASHGRAB_PASS_KEYS={KEYS}\n")
    return tmp_path


def checked(token: str) -> Pass:
    found = PassKeys.parse(KEYS).check(token, time.time_ns() // 1_000_000)
    assert found is not None
    return found


def test_one_pass_a_line_for_users_from_0(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """User ids are prefix + 0…N-1; the first key signs; the target goes to stderr."""
    words = ["--campaign", "c1", "--users", "3", "--prefix", "buyer-", "--data", str(folder)]
    assert main(["pass", "mint", *words]) == 0
    said = capsys.readouterr()
    passes = [checked(line) for line in said.out.splitlines()]
    assert [p.user_id for p in passes] == ["buyer-0", "buyer-1", "buyer-2"]
    assert {(p.campaign_id, p.device_id) for p in passes} == {("c1", "")}
    assert all(line.startswith("v1.new/") for line in said.out.splitlines())
    assert said.err == f"target: the stack in {folder}\n"


def test_passes_go_into_a_file_of_its_owner(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--out: mode 0600 even where the file was open to all, nothing on stdout."""
    out = tmp_path / "passes.txt"
    out.write_text("old\n" * 100)
    out.chmod(0o644)
    words = ["--campaign", "c1", "--users", "2", "--out", str(out), "--data", str(folder)]
    assert main(["pass", "mint", *words]) == 0
    assert [checked(line).user_id for line in out.read_text().splitlines()] == ["u0", "u1"]
    assert out.stat().st_mode & 0o777 == 0o600
    assert capsys.readouterr().out == ""


def test_keys_of_the_environment_are_enough(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any data folder."""
    monkeypatch.setenv("FLASHGRAB_PASS_KEYS", KEYS)
    monkeypatch.chdir(folder)
    assert main(["pass", "mint", "--campaign", "c1", "--users", "1"]) == 0
    assert checked(capsys.readouterr().out.strip()).user_id == "u0"


def test_a_pass_is_valid_as_long_as_asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--valid 90s: refused a minute and a half later."""
    words = ["--campaign", "c1", "--users", "1", "--valid", "90s", "--data", str(folder)]
    assert main(["pass", "mint", *words]) == 0
    token = capsys.readouterr().out.strip()
    now_ms = time.time_ns() // 1_000_000
    keys = PassKeys.parse(KEYS)
    assert keys.check(token, now_ms + 80_000) is not None
    assert keys.check(token, now_ms + 91_000) is None


@pytest.mark.parametrize(
    "text, expected", [("90s", 90), ("30m", 1800), ("24h", 86_400), ("7d", 604_800)]
)
def test_valid_is_a_number_and_a_unit(text: str, expected: int) -> None:
    """Seconds, minutes, hours, days."""
    assert read_valid(text) == expected


@pytest.mark.parametrize("text", ["", "24", "h", "0h", "-1h", "1w", "999d", "1.5h", "\u0661h"])
def test_any_other_valid_is_refused(text: str) -> None:
    """With what was expected."""
    with pytest.raises(Failure, match="--valid"):
        read_valid(text)


@pytest.mark.parametrize(
    "words",
    [
        ["--campaign", "No", "--users", "1"],
        ["--campaign", "c", "--users", "0"],
        ["--campaign", "c", "--users", "many"],
        ["--campaign", "c", "--users", "1", "--prefix", "a b"],
        ["--campaign", "c", "--users", "100", "--prefix", "p" * 63],
        ["--campaign", "c", "--users", "1", "--out", "/no/such/folder/passes"],
        ["--users", "1"],
    ],
    ids=["campaign", "none", "number", "prefix", "long", "folder", "missing"],
)
def test_a_wrong_use_is_one_line(
    words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, nothing on stdout, no traceback."""
    assert main(["pass", "mint", *words, "--data", str(folder)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-1].startswith("flashgrab: ")
    assert "Traceback" not in said.err


def test_without_keys_it_says_where_they_come_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty data folder: exit 2 naming the setting."""
    words = ["--campaign", "c", "--users", "1", "--data", str(tmp_path)]
    assert main(["pass", "mint", *words]) == 2
    assert "FLASHGRAB_PASS_KEYS" in capsys.readouterr().err


@pytest.mark.xdist_group("stack")
def test_the_gateway_takes_a_minted_pass(running_stack: Stack) -> None:
    """From the command line to a 201."""
    import httpx2

    campaign_id = running_stack.campaign(simple("minted", quota=2))
    done = running_stack.command("pass", "mint", "--campaign", campaign_id, "--users", "1")
    assert done.returncode == 0, done.stderr
    granted = httpx2.post(
        f"{running_stack.gateway_url}/v1/campaigns/{campaign_id}/grabs",
        headers={"authorization": f"Bearer {done.stdout.strip()}"},
    )
    assert granted.status_code == 201, granted.text
