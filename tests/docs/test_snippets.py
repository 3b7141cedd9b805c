"""The programs of /docs, taken from the page and run as they stand there, against a real stack."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from flashgrab.docs.snippets import BACKEND, BUYER, CENTRE, GATEWAY, MANAGE
from tests.conftest import SHOP_TOKEN, require
from tests.docs.shelf import snippets
from tests.e2e.running import Stack, simple

pytestmark = [pytest.mark.xdist_group("stack")]
WITHIN_S = 60
SALE = "snippets"
RUN: Mapping[str, tuple[Sequence[str], str | None]] = {
    "curl": (("sh",), "curl" if shutil.which("curl") is None else None),
    "Python": ((sys.executable, "-P"), None),
    "JavaScript": (("node",), "node" if shutil.which("node") is None else None),
}
FILE = {"curl": "it.sh", "Python": "it.py", "JavaScript": "it.mjs"}


@pytest.fixture(scope="package")
def sale(running_stack: Stack) -> str:
    """A campaign that is open, so that the programs have nothing to wait for."""
    return running_stack.campaign(simple(SALE, quota=50))


def run(language: str, text: str, folder: Path, **environment: str) -> list[str]:
    """Run it in a folder of its own; the lines that it printed."""
    program, missing = RUN[language]
    require(f"no {missing} here" if missing else None)
    file = folder / FILE[language]
    file.write_text(text)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("FLASHGRAB_")}
    done = subprocess.run(
        [*program, str(file)],
        cwd=folder,
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if line]


def read(language: str, line: str) -> dict[str, object]:
    """A line as data; Python prints its own form of it."""
    found: dict[str, object] = (
        eval(line, {"__builtins__": {}}) if language == "Python" else json.loads(line)  # noqa: S307
    )
    return found


@pytest.mark.parametrize("language", ["curl", "Python", "JavaScript"])
def test_a_buyers_program_does_what_it_says(
    language: str, running_stack: Stack, sale: str, tmp_path: Path
) -> None:
    """It wins, its repeat is the same grab, the grab is shown, another key is a problem."""
    text = snippets(running_stack.gateway_url, sale)[BUYER, language]
    won, again, shown, refused = (read(language, line) for line in run(language, text, tmp_path))
    assert won["campaign_id"] == sale
    assert again["grab_id"] == shown["grab_id"] == won["grab_id"]
    assert again["replayed"] is True
    assert shown["state"] in ("GRANTED", "PERSISTED")
    assert (refused["code"], refused["grab_ids"]) == ("USER_LIMIT", [won["grab_id"]])
    assert running_stack.get(f"/v1/grabs/{won['grab_id']}") is None


@pytest.mark.parametrize("language", ["curl", "Python", "JavaScript"])
def test_a_shops_backend_asks_for_a_coupon(
    language: str, running_stack: Stack, sale: str, tmp_path: Path
) -> None:
    """The coupon is its owner's, and the list of what he holds has it; nobody else's is told."""
    buyer = snippets(running_stack.gateway_url, sale)[BUYER, "Python"]
    named = buyer.replace("buyer-{uuid.uuid4()}", f"shown-{language}")
    assert named != buyer
    won = read("Python", run("Python", named, tmp_path)[0])
    text = snippets(running_stack.gateway_url, sale)[BACKEND, language]
    told = {"SHOP_TOKEN": SHOP_TOKEN, "GRAB_ID": str(won["grab_id"])}
    first, held = run(language, text, tmp_path, USER_ID=f"shown-{language}", **told)
    assert str(won["grab_id"]) in held
    other, _ = run(language, text, tmp_path, USER_ID="somebody-else", **told)
    if language == "curl":
        assert json.loads(first)["grab_id"] == won["grab_id"]
        assert json.loads(other)["code"] == "GRAB_NOT_FOUND"
    else:
        assert (first.lower(), other.lower()) == ("true", "false")


def test_locusts_users_grab(running_stack: Stack, sale: str, tmp_path: Path) -> None:
    """Without a single failure, for three seconds."""
    text = snippets(running_stack.gateway_url, sale)["A crowd", "Locust"]
    (tmp_path / "locustfile.py").write_text(text)
    words = ["-f", "locustfile.py", "--headless", "-u", "5", "-r", "5", "-t", "3s", "--json"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "locust", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = {row["name"]: row["num_requests"] for row in json.loads(done.stdout)}
    failed = {row["name"]: row["num_failures"] for row in json.loads(done.stdout)}
    assert set(counts) == {"/demo/identity", "passes", "grab"}
    assert counts["grab"] >= counts["passes"] >= 1
    assert set(failed.values()) == {0}


@pytest.mark.parametrize("language", ["curl", "Python"])
def test_management_creates_publishes_and_pauses(
    language: str, running_stack: Stack, tmp_path: Path
) -> None:
    """And run a second time it changes nothing: its operations have names."""
    campaign_id = f"managed-{language.lower()}"
    text = snippets(running_stack.centre_url, campaign_id)[MANAGE, language]
    told = {"FLASHGRAB_ADMIN_TOKEN": running_stack.secrets()["FLASHGRAB_ADMIN_TOKEN"]}
    first, second = (run(language, text, tmp_path, **told) for _ in range(2))
    shown = [read(language, lines[-1]) for lines in (first, second)]
    assert [s["status"] for s in shown] == ["PAUSED", "PAUSED"]
    assert shown[0]["version"] == shown[1]["version"]


def test_without_a_demo_the_programs_ask_for_the_logins_token() -> None:
    """They name IDENTITY_TOKEN and no address that exists in a demo only."""
    from flashgrab.docs import snippets as programs

    for snippet in programs.filled(programs.GATEWAY, "https://shop.example", "c-1"):
        assert "/demo/" not in snippet.text
        assert "@" not in snippet.text.replace("@task", "").replace('"$@"', "").replace(" @- ", "")
        if snippet.title != BACKEND:
            assert "IDENTITY_TOKEN" in snippet.text


def test_every_file_of_a_program_is_shown() -> None:
    """No program lies around that no page has, and none is missing."""
    from flashgrab.docs.snippets import FOLDER

    assert {name for _, _, name in (*GATEWAY, *CENTRE)} == {p.name for p in FOLDER.iterdir()}
