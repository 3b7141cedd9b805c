"""`make unit`: all tests side by side; the few that failed once more, each after the other.

Hundreds of tests of real servers share two cores here, and a few of them wait for something that a
busy machine brings too late. What fails when it runs by itself fails the run; what passes then is
named, since it waits too short a time, or has found a race. More than a few are no accident.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

AGAIN_MAX = 8
LAST_FAILED = Path(".pytest_cache/v/cache/lastfailed")
GROUP = re.compile(r"@[\w -]+$")
"""What pytest-xdist puts behind the name of a test that belongs to a group."""
TESTS_FAILED = 1
"""pytest's exit status where tests ran and some failed; any other but 0 is no matter of load."""


def place(name: str) -> tuple[str, str]:
    """Folder by folder: pytest forgets a folder's fixtures when it comes back to it."""
    return str(Path(name.partition("::")[0]).parent), name


def main(arguments: list[str]) -> int:
    """Exit status of the whole; `arguments` are pytest's."""
    pytest = [sys.executable, "-m", "pytest"]
    LAST_FAILED.unlink(missing_ok=True)
    status = subprocess.run([*pytest, *arguments], check=False).returncode
    if status != TESTS_FAILED:
        return status
    noted = json.loads(LAST_FAILED.read_text()) if LAST_FAILED.exists() else {}
    failed = sorted((GROUP.sub("", name) for name in noted), key=place)
    if not 0 < len(failed) <= AGAIN_MAX:
        print(f"{len(failed)} tests failed: more than {AGAIN_MAX} are not run again")
        return status
    print(f"{len(failed)} of them once more, without others beside them", flush=True)
    status = subprocess.run([*pytest, "-n", "0", *failed], check=False).returncode
    if status == 0:
        print("failed beside others, passed alone (look at them):", *failed, sep="\n  ")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
