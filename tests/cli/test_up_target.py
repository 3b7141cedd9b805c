"""How commands find the stack, and how they say that they cannot."""

import json
import os
from pathlib import Path

import pytest

from flashgrab.cli import app, target
from flashgrab.cli.failure import Failure


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder as a running `up` leaves it."""
    shown = {
        "gateway": [
            {"pid": 1, "url": "http://127.0.0.1:1", "metrics": "http://127.0.0.1:2/metrics"},
            {"pid": 2, "url": "http://127.0.0.1:1", "metrics": "http://127.0.0.1:2/metrics"},
        ],
        "relay": [],
        "worker": [{"pid": 3, "metrics": "http://127.0.0.1:3/metrics"}],
        "centre": [
            {"pid": 4, "url": "http://127.0.0.1:4", "metrics": "http://127.0.0.1:5/metrics"}
        ],
        "kafka": [{"pid": 5, "url": "kafka://127.0.0.1:6", "bootstrap": "127.0.0.1:6"}],
        "up": [{"pid": os.getpid()}],
    }
    (tmp_path / "run.json").write_text(json.dumps(shown))
    (tmp_path / "secrets.env").write_text(
        "FLASHGRAB_REDIS_URL=redis://:secret@127.0.0.1:7/0\n"
        "FLASHGRAB_POSTGRES_URL=postgresql://flashgrab:secret@127.0.0.1:8/flashgrab\n"
        "FLASHGRAB_PASS_KEYS=k1:key\nFLASHGRAB_ADMIN_TOKEN=token\nFLASHGRAB_IDENTITY_KEY=id\n"
    )
    return tmp_path


def expected(folder: Path) -> target.Target:
    """What the folder above says."""
    return target.Target(
        name=f"the stack in {folder}",
        gateway_url="http://127.0.0.1:1",
        centre_url="http://127.0.0.1:4",
        redis_url="redis://:secret@127.0.0.1:7/0",
        kafka_bootstrap="127.0.0.1:6",
        postgres_url="postgresql://flashgrab:secret@127.0.0.1:8/flashgrab",
        pass_keys="k1:key",
        admin_token="token",
        identity_key="id",
        metrics={
            "gateway": ("http://127.0.0.1:2/metrics",),
            "relay": (),
            "worker": ("http://127.0.0.1:3/metrics",),
            "centre": ("http://127.0.0.1:5/metrics",),
        },
        folder=folder,
    )


def test_the_folder_named_comes_first(folder: Path) -> None:
    """--data beats addresses and secrets of the environment."""
    environment = {"FLASHGRAB_REDIS_URL": "redis://other", "FLASHGRAB_ADMIN_TOKEN": "other"}
    assert target.find(folder, environment=environment) == expected(folder)


def test_addresses_of_the_environment_beat_its_folder(folder: Path) -> None:
    """Explicit FLASHGRAB_* addresses come before FLASHGRAB_DATA."""
    environment = {"FLASHGRAB_CENTRE_URL": "http://c", "FLASHGRAB_DATA": str(folder)}
    found = target.find(environment=environment)
    assert (found.centre_url, found.redis_url) == ("http://c", "")
    assert found.metrics["worker"] == ("http://127.0.0.1:9102/metrics",)


def test_the_folder_of_the_environment(folder: Path) -> None:
    """FLASHGRAB_DATA names the folder where neither --data nor an address is given."""
    assert target.find(environment={"FLASHGRAB_DATA": str(folder)}) == expected(folder)


def test_the_folder_where_one_stands(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without anything else it is .flashgrab/ here."""
    monkeypatch.chdir(folder)
    (folder / "run.json").rename(folder / "moved")
    Path(".flashgrab").mkdir()
    for name, moved in (("run.json", "moved"), ("secrets.env", "secrets.env")):
        (folder / moved).rename(Path(".flashgrab") / name)
    assert target.find(environment={}) == expected(Path(".flashgrab"))


def test_what_is_missing_is_named(folder: Path) -> None:
    """Where nothing runs, or a needed field is unknown, the line says what to do."""
    with pytest.raises(Failure, match=r"^nothing runs in .*: start `flashgrab up`"):
        target.find(folder / "none", environment={})
    found = target.find(environment={"FLASHGRAB_REDIS_URL": "redis://r"})
    assert found.need("redis_url") is found
    with pytest.raises(Failure, match=r"no centre url: .*set FLASHGRAB_CENTRE_URL$"):
        found.need("redis_url", "centre_url")


def test_a_dead_stack_is_named(folder: Path) -> None:
    """A run.json left by a kill -9 of `up` is not taken for a running stack."""
    (folder / "run.json").write_text(json.dumps({"up": [{"pid": 2**22 + 1}]}))
    with pytest.raises(Failure, match=r"nothing runs in .* any more"):
        target.find(folder, environment={})


def test_secrets_alone_need_no_running_stack(folder: Path) -> None:
    """`pass mint` takes its key from a folder that is stopped, or from the environment alone."""
    (folder / "run.json").unlink()
    assert target.find(folder, environment={}, running=False).pass_keys == "k1:key"
    environment = {"FLASHGRAB_PASS_KEYS": "k2:other"}
    assert target.find(environment=environment, running=False).pass_keys == "k2:other"


def test_passwords_are_not_shown(folder: Path) -> None:
    """Neither repr nor the line about an unreachable service holds a password."""
    assert "secret" not in repr(target.find(folder, environment={}))
    with pytest.raises(Failure) as failure:
        target.unreachable("Redis", "redis://:secret@127.0.0.1:7/0", ConnectionRefusedError("no"))
    assert str(failure.value) == "Redis at redis://127.0.0.1:7/0 does not answer (no); is it up?"


@pytest.mark.parametrize("wrong", [["nix"], ["--nix"], ["up", "--port", "many"], ["up", "--nix"]])
def test_wrong_use_is_one_line(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong command, option or value: one line on stderr, nothing on stdout, status 2."""
    assert app.main(wrong) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
