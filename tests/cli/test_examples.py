"""Every command's help has examples, and every one of them runs, against one stack."""

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.core import TyperGroup

from flashgrab.cli.app import COMMANDS, load, main
from flashgrab.cli.campaigns import Centre
from flashgrab.receipts import Receipt, ReceiptKeys
from tests.cli.stack_process import data_folder
from tests.e2e.running import COMMAND, Stack, until

pytestmark = [pytest.mark.xdist_group("examples")]

NOT_RUN = {
    "flashgrab bench --quick": "needs wrk, nginx and Go, and half a minute of the whole machine",
    "flashgrab drill kill-worker": "starts a second stack; tests/cli/test_drill.py runs it",
}
"""Examples that no test of this module runs, and why."""

LONG = ("up", "gateway", "relay", "worker", "centre")
"""Commands that go on until they are told to stop."""
ENDLESS = "flashgrab top"
"""An example that does too; it is Ctrl-C that ends it, after its first line."""

FIRST = (
    *("campaign create", "campaign publish", "campaign create spring.toml --publish"),
    *("campaign list", "campaign show"),
    *("pass", "segment", "block", "token create", "token", "receipt key", "receipt"),
)
LAST = (
    *("campaign restock", "campaign return", "campaign link", "backup", "restore"),
    *("campaign rebuild", "campaign close", "dead", "audit", "doctor"),
)
"""What the others build on, and what changes what they would find; the rest is in between."""

SPRING = """
id = "spring-618"
name = "Spring sale: 30 off 200"
per_user = 1
audience = "segment"
segment = "vip"
[rule]
kind = "amount_off"
amount = 3000
threshold = 20000
[[rounds]]
opens_at = "now"
closes_at = "+1h"
quota = 100
[[rounds]]
opens_at = "+2h"
closes_at = "+1h"
quota = 100
"""


def commands() -> Iterator[tuple[str, Any]]:
    """Every command that can be called, by its words."""
    for name in COMMANDS:
        found = load(name)
        if isinstance(found, TyperGroup):
            for sub, command in sorted(found.commands.items()):
                yield f"{name} {sub}", command
        else:
            yield name, found


def examples(command: Any) -> list[str]:
    """As the end of its help shows them."""
    found = re.fullmatch(r"Examples?: (.*)", command.epilog or "", re.DOTALL)
    return found[1].split(" · ") if found else []


EVERY = [(name, example) for name, command in commands() for example in examples(command)]


def test_every_command_has_an_example() -> None:
    """One that begins with what it is an example of."""
    without = [name for name, command in commands() if not examples(command)]
    assert without == []
    for name, example in EVERY:
        assert re.search(rf"(^| )flashgrab {name}( |$)", example), example


def test_what_is_not_run_is_an_example_still() -> None:
    """The list of exceptions names nothing that is gone."""
    assert NOT_RUN.keys() <= {example for _, example in EVERY}


def place(name: str, example: str) -> tuple[int, int]:
    """Where in the order: by the example itself, its command, or its command's group."""

    def find(order: tuple[str, ...]) -> int | None:
        words = (example.removeprefix("flashgrab "), name, name.split(maxsplit=1)[0])
        return next((order.index(word) for word in words if word in order), None)

    if (at := find(FIRST)) is not None:
        return 0, at
    return (2, at) if (at := find(LAST)) is not None else (1, 0)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Started as the example of `up` says, on free ports."""
    (example,) = [example for name, example in EVERY if name == "up"]
    words = shlex.split(example)[2:]
    with data_folder() as folder:
        running = Stack(folder, *words)
        try:
            yield running.start()
        finally:
            running.end()


def test_every_example_runs(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a folder with the files that they name, and with nothing but FLASHGRAB_DATA set."""
    folder = stack.data.parent
    (folder / "spring.toml").write_text(SPRING)
    (folder / "vip.txt").write_text("ann\nbob\n")
    for name in [name for name in os.environ if name.startswith("FLASHGRAB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FLASHGRAB_DATA", str(stack.data))
    monkeypatch.chdir(folder)
    here = Here(stack)
    failed = []
    for name, example in sorted(EVERY, key=lambda each: place(*each)):
        if name == "up" or example in NOT_RUN:
            continue
        began = time.monotonic()
        if name.split()[0] in LONG:
            status, said = here.serves(example)
        elif example == ENDLESS:
            status, said = here.watches(example)
        else:
            if name == "campaign return":
                here.sell()
            status = main(shlex.split(here.filled(example))[1:])
            out, err = capsys.readouterr()
            said = out + err
            here.heard(name, out)
        with capsys.disabled():
            print(f"{time.monotonic() - began:6.2f} s  {status}  {example}")
        if status != 0:
            failed.append(f"{example}: exit {status}\n{said}")
    assert not failed, "\n".join(failed)


class Here:
    """What an example's addresses and ids are in this stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        secrets, run = stack.secrets(), stack.run_json()
        self._meant = {
            "redis://127.0.0.1:6379": secrets["FLASHGRAB_REDIS_URL"],
            "postgresql://127.0.0.1/flashgrab": secrets["FLASHGRAB_POSTGRES_URL"],
            "127.0.0.1:9092": run["kafka"][0]["bootstrap"],
            "FLASHGRAB_PASS_KEYS=k1:…": f"FLASHGRAB_PASS_KEYS={secrets['FLASHGRAB_PASS_KEYS']}",
            "FLASHGRAB_ADMIN_TOKEN=…": f"FLASHGRAB_ADMIN_TOKEN={secrets['FLASHGRAB_ADMIN_TOKEN']}",
        }

    def filled(self, example: str) -> str:
        """The example with what only this stack knows."""
        for meant, real in self._meant.items():
            example = example.replace(meant, real)
        return example

    def heard(self, name: str, said: str) -> None:
        """Ids and keys that later examples mean."""
        if name == "token create":
            with self.centre() as centre:
                ids = [token["id"] for token in centre.tokens() if token["kind"] == "token"]
            self._meant["3f2a91c07b5d4e68"] = ids[0]
        if name == "receipt key":
            key = next(word for word in said.split() if word.startswith("r1:"))
            keys = ReceiptKeys.parse(key)
            now_s = int(time.time())
            self._meant["eyJ…"] = keys.sign(
                Receipt(
                    grab_id="spring-618-1",
                    serial=1,
                    round=1,
                    state="GRANTED",
                    user_id="alice",
                    at_s=now_s,
                )
            )
            import json

            Path("receipt-keys.json").write_text(json.dumps(keys.jwks()))

    def centre(self) -> Centre:
        return Centre(self._stack.centre_url, self._stack.secrets()["FLASHGRAB_ADMIN_TOKEN"])

    def sell(self) -> None:
        """Coupons of the campaign that the examples are about, all of them in the ledger."""
        assert main(["rehearse", "--campaign", "spring-618", "--buyers", "20"]) == 0

    def watches(self, example: str) -> tuple[int, str]:
        """Until it says the first thing, then Ctrl-C."""
        seen = self._stack.begin(*shlex.split(example)[1:])
        assert seen.stdout is not None
        first = seen.stdout.readline()
        seen.send_signal(signal.SIGINT)
        out, err = seen.communicate(timeout=40)
        return seen.returncode, first + out + err

    def serves(self, example: str) -> tuple[int, str]:
        """A part by itself: until it measures something on its port, then Ctrl-C."""
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("FLASHGRAB_")
        }
        environment |= {
            f"FLASHGRAB_{name}": "0" for name in ("PORT", "CENTRE_PORT", "METRICS_PORT")
        }
        environment["FLASHGRAB_RELAY_NAME"] = environment["FLASHGRAB_WORKER_NAME"] = "example"
        command = shlex.join(COMMAND)
        shell = self.filled(example).replace(" flashgrab ", f" exec {command} ", 1)
        process = subprocess.Popen(
            ["/bin/sh", "-c", re.sub(r"^((?:\S+=\S* )+)exec ", r"export \1; exec ", shell)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            until(f"{example} listens", lambda: _listens(process) or process.poll() is not None)
            process.send_signal(signal.SIGTERM)
            said, _ = process.communicate(timeout=40)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        return process.returncode, said


def _can_be_stopped(pid: int) -> bool:
    """Whether it takes SIGTERM itself; where the system does not say (macOS), it is taken so."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)", status, re.MULTILINE)
    return caught is None or bool(int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


def _listens(process: "subprocess.Popen[str]") -> bool:
    """Whether it, or a child of it, has a port, and it has come so far that it can be stopped."""
    if not _can_be_stopped(process.pid):
        return False
    try:
        one = psutil.Process(process.pid)
        all_of_it = [one, *one.children(recursive=True)]
        return any(
            connection.status == psutil.CONN_LISTEN
            for each in all_of_it
            for connection in each.net_connections("tcp")
        )
    except psutil.Error:
        return False
