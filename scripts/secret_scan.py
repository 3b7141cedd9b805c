"""Looks for secrets in the files of the repository, or in those that are named: `make check`.

detect-secrets' detectors of what has a form of its own, and one of ours for staff tokens. Words
beside "password" and strings that only look random are left out: the tests are full of both, and
a list of hundreds of exceptions is read by nobody. A line that says `pragma: allowlist secret` is
passed over. Exit 1 and one line a finding, which never shows the secret.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class

DETECTORS = (
    *(
        "ArtifactoryDetector",
        "AWSKeyDetector",
        "AzureStorageKeyDetector",
        "DiscordBotTokenDetector",
    ),
    *("GitHubTokenDetector", "GitLabTokenDetector", "JwtTokenDetector", "MailchimpDetector"),
    *("NpmDetector", "OpenAIDetector", "PrivateKeyDetector", "PypiTokenDetector"),
    *("SendGridDetector", "SlackDetector", "SquareOAuthDetector", "StripeDetector"),
    *("TelegramBotTokenDetector", "TwilioKeyDetector"),
)
OURS = re.compile(r"fg[tls]_[0-9a-f]{16}_[A-Za-z0-9_-]{43}")
ALLOWED = "pragma: allowlist secret"
NO_TEXT = (".lock", ".jsonl", ".png", ".gz")
"""Locks hold hashes of packages, and nothing that is written by hand."""


def files() -> list[str]:
    """Committed files, and new ones that git does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    names = sorted({name for name in listed.split("\0") if name and not name.endswith(NO_TEXT)})
    return [name for name in names if Path(name).is_file()]


def scan(names: list[str]) -> list[str]:
    """What was found, one line each. A detector is asked about the lines its pattern hits: to ask
    each about every line, as the library does, takes 11 s of CPU."""
    all_kinds: list[Any] = list(get_mapping_from_secret_type_to_class().values())
    known = {kind.__name__: kind for kind in all_kinds}
    detectors = [known[name]() for name in DETECTORS]
    found = []
    for name in names:
        text = Path(name).read_text(encoding="utf-8", errors="replace")
        hits = [d for d in detectors if any(form.search(text) for form in d.denylist)]
        if not hits and not OURS.search(text):
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if ALLOWED in line:
                continue
            kinds = {d.secret_type for d in hits if d.analyze_line(name, line, number)}
            kinds |= {"staff token of Flashgrab"} if OURS.search(line) else set()
            found += [f"{name}:{number}: {kind}" for kind in sorted(kinds)]
    return sorted(found)


def main() -> int:
    names = sys.argv[1:] or files()
    found = scan(names)
    for line in found:
        print(line)
    print(f"{len(found)} secrets in {len(names)} files")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
