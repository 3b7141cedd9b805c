"""The secret scan finds what it looks for, and the dependency audit fails for findings only."""

import subprocess
import sys
from pathlib import Path

import pytest

from flashgrab.staff import make
from scripts import dependency_audit, secret_scan

SCRIPTS = Path(__file__).parent.parent / "scripts"
# In pieces, so that this file does not hold what the scan looks for.
PLANTED = {
    "Private Key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "AWS Access Key": "AKIA" + "IOSFODNN7EXAMPLE",
    "GitHub Token": "ghp_" + "a1B2" * 9,
    "JSON Web Token": "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiJhIn0." + "c2lnbmF0dXJlLW9mLWl0",
    "staff token of Flashgrab": make("token").shown(),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_secret_is_found(tmp_path: Path, kind: str) -> None:
    """Its file, line and kind are said, the secret is not; exit 1."""
    file = tmp_path / "settings.py"
    file.write_text(f'one = 1\nKEY = "{PLANTED[kind]}"\n')
    command = [sys.executable, str(SCRIPTS / "secret_scan.py"), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, f"{file}:2: {kind}" in done.stdout) == (1, True), done
    assert PLANTED[kind] not in done.stdout + done.stderr


def test_a_line_may_be_excepted(tmp_path: Path) -> None:
    """By a remark on that line; the control is the test above."""
    file = tmp_path / "a.py"
    file.write_text(f"{PLANTED['AWS Access Key']}  # {secret_scan.ALLOWED}\nplain = 2\n")
    assert secret_scan.scan([str(file)]) == []


def test_the_repository_holds_no_secret() -> None:
    """Nothing that is committed, or about to be."""
    names = secret_scan.files()
    assert len(names) > 400
    assert secret_scan.scan(names) == []


@pytest.mark.parametrize(
    "status, said, outcome",
    [
        (0, "No known vulnerabilities found", "ok"),
        (1, "Found 2 known vulnerabilities in 1 package\nstarlette 0.1 ...", "bad"),
        (1, "Found 1 known vulnerability in 1 package, ConnectionError elsewhere", "bad"),
        (1, "ERROR:pip_audit._cli:Could not connect to the index", "skipped"),
        (1, "requests.exceptions.ConnectionError: Max retries exceeded", "skipped"),
        (None, "", "skipped"),
        (1, "ERROR: requirements.lock: line 3 is wrong", "bad"),
        (2, "usage: pip-audit", "bad"),
    ],
)
def test_only_findings_and_faults_of_ours_fail(status: int | None, said: str, outcome: str) -> None:
    """A service that is away is a reason to skip, and it is said; all else that is not ok fails."""
    found, why = dependency_audit.verdict(status, said)
    assert found == outcome
    assert why


def test_without_a_network_the_audit_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """pip-audit itself, with every way out leading to a closed port: skipped, exit 0; with
    AUDIT=required exit 1."""
    environment = dict.fromkeys(("HTTPS_PROXY", "https_proxy"), "http://127.0.0.1:9")
    for name, value in (environment | {"NO_PROXY": "", "no_proxy": ""}).items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, str(SCRIPTS / "dependency_audit.py")]
    for required, status in (("", 0), ("required", 1)):
        monkeypatch.setenv("AUDIT", required)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.stdout.startswith("dependency audit skipped: "), done
        assert done.returncode == status
