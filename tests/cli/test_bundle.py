"""`flashgrab doctor --bundle`: everything that helps, and no secret in any form."""

import json
import stat
import zipfile
from pathlib import Path

import pytest

from flashgrab.cli.checkup import bundle as bundles
from flashgrab.cli.stack.environments import secrets_of
from tests.cli.test_doctor import command, made
from tests.e2e.running import Stack

SECRET = "s3cret-of-the-shop"


def texts_of(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as bundle:
        return {name.removeprefix("flashgrab/"): bundle.read(name).decode()
                for name in bundle.namelist()}  # fmt: skip


def written(path: Path, folder: Path) -> dict[str, str]:
    """A bundle of a folder, by names."""
    bundles.write(path, [], settings=[], folder=folder, secrets={SECRET}, metrics={})
    return texts_of(path)


@pytest.mark.xdist_group("stack")
def test_the_bundle_has_everything_but_secrets(running_stack: Stack, tmp_path: Path) -> None:
    """Logs, settings, findings, metrics; no secret of the stack in any form, also none that a log
    should never have had."""
    token = "fgl_" + "0123456789abcdef" * 2
    admin = running_stack.secrets()["FLASHGRAB_ADMIN_TOKEN"]
    spilt = running_stack.data / "logs" / "spilt.log"
    spilt.write_text(f"Authorization: Bearer {admin}\nlink {token}\n")
    path = tmp_path / "support.zip"
    done = running_stack.command("doctor", "--bundle", str(path))
    spilt.unlink()
    assert done.returncode == 0, done.stdout + done.stderr
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    texts = texts_of(path)
    logs = {f"logs/{log.name}" for log in (running_stack.data / "logs").iterdir()}
    assert texts.keys() >= logs | {
        *("README.txt", "versions.json", "doctor.json", "settings.json", "run.json", "version"),
        *(f"metrics/{part}-1.txt" for part in ("gateway", "relay", "worker", "centre")),
    }
    assert "flashgrab_grabs" in texts["metrics/gateway-1.txt"]
    assert json.loads(texts["versions.json"])["packages"]["flashgrab"]
    assert {f["check"] for f in json.loads(texts["doctor.json"])} >= {"redis-aof", "files"}
    whole = "\n".join(texts.values())
    secrets = {*running_stack.secrets().values(), *secrets_of([running_stack.secrets()]), token}
    assert len(secrets) > 10
    assert [secret for secret in secrets if secret in whole] == []
    assert texts["logs/spilt.log"] == "Authorization: Bearer ***\nlink ***\n"


def test_a_bundle_of_nothing_is_one_too(tmp_path: Path) -> None:
    """Where `up` does not come up, its folder and the machine are what there is to look at."""
    folder = made(tmp_path / "data")
    (folder / "secrets.env").write_text(f"FLASHGRAB_ADMIN_TOKEN={'t' * 40}\n")
    (folder / "logs").mkdir()
    (folder / "logs" / "centre.log").write_text(f"cannot start {'t' * 40}\n")
    command("--data", str(folder), "--bundle", str(tmp_path / "b.zip"))
    with zipfile.ZipFile(tmp_path / "b.zip") as bundle:
        assert bundle.read("flashgrab/logs/centre.log") == b"cannot start ***\n"
    done = command("--data", str(folder), "--bundle", str(tmp_path / "no" / "b.zip"))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("kept", [1, 9, len(SECRET)])
def test_a_secret_at_the_cut_of_a_long_log_is_not_left_in_half(tmp_path: Path, kept: int) -> None:
    """Wherever the end of the log begins, nothing of it is in the bundle."""
    (tmp_path / "logs").mkdir()
    tail = f"{SECRET[-kept:]} was taken\n" + "next\n"
    rest = "x" * (bundles.LOG_BYTES - len(tail) - 1) + "\n"
    log = f"begin {SECRET[:-kept]}{tail}{rest}"
    assert log[-bundles.LOG_BYTES :].startswith(SECRET[-kept:])
    (tmp_path / "logs" / "centre.log").write_text(log)
    assert written(tmp_path / "b.zip", tmp_path)["logs/centre.log"] == f"next\n{rest}"


def test_a_file_that_was_there_is_for_its_owner_alone_too(tmp_path: Path) -> None:
    """Mode 0600, whatever it was."""
    path = tmp_path / "b.zip"
    path.touch(0o666)
    path.chmod(0o666)
    written(path, tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_log_that_cannot_be_read_says_so_in_its_place(tmp_path: Path) -> None:
    """The others are what somebody needs who helps."""
    (tmp_path / "logs" / "odd.log").mkdir(parents=True)
    (tmp_path / "logs" / "worker.log").write_text("well\n")
    found = written(tmp_path / "b.zip", tmp_path)
    assert found["logs/odd.log"] == "cannot be read: Is a directory\n"
    assert found["logs/worker.log"] == "well\n"
