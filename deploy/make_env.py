"""Makes .env, the secrets that docker-compose.yml asks for: `python3 deploy/make_env.py`, once.

Standard library only, so that it runs before anything is installed. A file that is there is never
changed: other secrets would lock the services out of their own data. Exit 1 then.
"""

import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

ENV = Path(__file__).resolve().parent.parent / ".env"
MAKERS: dict[str, Callable[[], str]] = {
    "VALKEY_PASSWORD": lambda: secrets.token_hex(24),
    "POSTGRES_PASSWORD": lambda: secrets.token_hex(24),
    "PASS_KEYS": lambda: f"k1:{secrets.token_hex(32)}",
    # The secret that your shop signs identity tokens with (HS256): put the shop's own here.
    "IDENTITY_KEY": lambda: secrets.token_hex(32),
    "SEGMENT_KEY": lambda: secrets.token_hex(32),
    "ADMIN_TOKEN": lambda: secrets.token_hex(24),
    "GRAFANA_PASSWORD": lambda: secrets.token_hex(16),
}


def main(path: Path = ENV) -> int:
    """Write it, for its owner alone."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        print(f"{path} is there already and stays as it is", file=sys.stderr)
        return 1
    with os.fdopen(file, "w", encoding="utf-8") as out:
        out.writelines(f"{name}={make()}\n" for name, make in MAKERS.items())
    print(f"made {path} with {len(MAKERS)} secrets, readable for you alone")
    return 0


if __name__ == "__main__":
    sys.exit(main())
