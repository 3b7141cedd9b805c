"""The shell's completion: it can be installed, knows commands, and campaigns where it is cheap."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.cli.metrics_server import metrics_server
from tests.e2e.running import COMMAND, Stack, simple


def run(
    environment: Mapping[str, str], *arguments: str, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FLASHGRAB_")}
    return subprocess.run(
        [*COMMAND, *arguments],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd=cwd,
    )


def zsh(line: str, cwd: Path, **environment: str) -> str:
    """What zsh is told for a line that was typed so far."""
    asked = {"_FLASHGRAB_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": line}
    return run({**asked, **environment}, cwd=cwd).stdout


def bash(line: str, cwd: Path, **environment: str) -> list[str]:
    """What bash completes, by the script that it was given."""
    program = cwd / "flashgrab"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m flashgrab.cli "$@"\n')
    program.chmod(0o755)
    script = run({"_FLASHGRAB_COMPLETE": "source_bash"}).stdout
    words = line.split(" ")
    ask = (
        f"{script}\nCOMP_WORDS=({' '.join(words)} '')\nCOMP_CWORD={len(words) - 1}\n"
        '_flashgrab_completion flashgrab\nprintf "%s\\n" "${COMPREPLY[@]}"'
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FLASHGRAB_")}
    clean["PATH"] = f"{cwd}:{clean['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", ask],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        cwd=cwd,
    )
    return done.stdout.split()


def test_completion_can_be_installed(tmp_path: Path) -> None:
    """typer's own options are there, and `--show-completion` gives the script of the shell."""
    said = run({}, "--help").stdout
    assert "--install-completion" in said
    assert "--show-completion" in said
    for shell, words in (("bash", "complete -o default"), ("zsh", "compdef")):
        script = run({"_FLASHGRAB_COMPLETE": f"source_{shell}"}).stdout
        assert words in script
    if shutil.which("bash"):
        program = f"{sys.executable} -m flashgrab.cli"
        shown = subprocess.run(
            ["bash", "--norc", "-c", f"{program} --show-completion; true"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
            env={**os.environ, "HOME": str(tmp_path)},
        )
        assert "_flashgrab_completion" in shown.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_commands_and_options_in_bash(tmp_path: Path) -> None:
    """Of the first word, of a group's second, and the options of a command."""
    assert bash("flashgrab re", tmp_path) == ["relay", "receipt", "restore", "rehearse"]
    assert "restock" in bash("flashgrab campaign re", tmp_path)
    assert "--drain" in bash("flashgrab audit --d", tmp_path)


def test_commands_in_zsh(tmp_path: Path) -> None:
    """By the protocol that its script speaks."""
    said = zsh("flashgrab campaign re", tmp_path)
    for word in ("restock", "resume", "rebuild", "return"):
        assert f'"{word}"' in said


def test_nothing_runs_and_nothing_is_said(tmp_path: Path) -> None:
    """Completion of an id without a stack: nothing, also on stderr."""
    asked = {
        "_FLASHGRAB_COMPLETE": "complete_zsh",
        "_TYPER_COMPLETE_ARGS": "flashgrab campaign show sp",
    }
    done = run(asked, cwd=tmp_path)
    assert done.stderr == ""
    assert "sp" not in done.stdout


def test_a_centre_that_is_slow_is_not_waited_for(tmp_path: Path) -> None:
    """Past its bound there is nothing to choose from."""
    from typer import Context

    from flashgrab.cli import completion

    def slow() -> str:
        time.sleep(2)
        return '{"campaigns": [{"campaign_id": "late"}]}'

    class Typed:
        params: dict[str, str] = {}  # noqa: RUF012

    with metrics_server(slow) as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLASHGRAB_CENTRE_URL", url.removesuffix("/metrics"))
        patch.setenv("FLASHGRAB_ADMIN_TOKEN", "t" * 32)
        began = time.monotonic()
        ctx: Context = Typed()  # type: ignore[assignment] # only its params are looked at
        assert completion.campaign_ids(ctx, "") == []
        assert time.monotonic() - began < 1.5


@pytest.mark.xdist_group("stack")
@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_campaigns_are_completed_from_the_centre(running_stack: Stack, tmp_path: Path) -> None:
    """As arguments and as options, those that begin with what was typed."""
    running_stack.campaign(simple("tabbed-one"))
    running_stack.campaign(simple("tabbed-two"))
    data = {"FLASHGRAB_DATA": str(running_stack.data)}
    expected = ["tabbed-one", "tabbed-two"]
    assert bash("flashgrab campaign show tab", tmp_path, **data) == expected
    assert bash("flashgrab top --campaign tabbed-t", tmp_path, **data) == ["tabbed-two"]
    given = f"flashgrab campaign pause --data {running_stack.data} tab"
    assert bash(given, tmp_path) == expected
    assert '"tabbed-one"' in zsh("flashgrab segment load tab", tmp_path, **data)
