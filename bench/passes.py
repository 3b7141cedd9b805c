"""The two forms of passes: ours, which every reference with BLAKE2s at hand takes, and HMAC's."""

import hashlib
import hmac
import secrets
from pathlib import Path
from typing import Protocol

from bench.commands import call, plain_env

CAMPAIGN = "bench"
PATH = f"/v1/campaigns/{CAMPAIGN}/grabs"
FOR_EVER_S = 1 << 33


class Passes(Protocol):
    """One form of passes with a key of its own."""

    form: str

    def mint(self, file: Path, users: int, prefix: str) -> None:
        """Write passes of users PREFIX0…, one a line."""
        ...


class Blake2Passes:
    """`flashgrab pass mint`: `v1.KID/CAMPAIGN/USER/DEVICE/EXPIRES_MS/MAC`, keyed BLAKE2s."""

    form = "blake2s"

    def __init__(self) -> None:
        secret = secrets.token_hex(20)
        self.env = {
            **plain_env(),
            "FLASHGRAB_PASS_KEYS": f"k1:{secret}",
            "FLASHGRAB_CONNECTIONS_PER_ADDRESS": "0",  # one machine is the whole crowd
        }
        self.mac_key = hashlib.blake2s(secret.encode(), person=b"fg-pass").hexdigest()
        """What flashgrab/passes.py makes of the secret, for servers in other languages."""

    def mint(self, file: Path, users: int, prefix: str, campaign: str = CAMPAIGN) -> None:
        mint(self.env, file, users, prefix, campaign)


class HmacPasses:
    """`CAMPAIGN.USER.EXPIRES_S.MAC`, HMAC-SHA-256 in hex: what every language has."""

    form = "hmac"

    def __init__(self) -> None:
        self.key = secrets.token_hex(20)

    def mint(self, file: Path, users: int, prefix: str) -> None:
        key = self.key.encode()
        with file.open("w") as out:
            for number in range(users):
                out.write(sign(key, CAMPAIGN, f"{prefix}{number}", FOR_EVER_S) + "\n")


def sign(key: bytes, campaign_id: str, user_id: str, expires_s: int) -> str:
    """A pass of the HMAC form."""
    body = f"{campaign_id}.{user_id}.{expires_s}"
    return f"{body}.{hmac.digest(key, body.encode(), 'sha256').hex()}"


def mint(
    env: dict[str, str], file: Path, users: int, prefix: str, campaign: str = CAMPAIGN
) -> None:
    """Passes of users PREFIX0… with the keys of an environment. Raises BadRun."""
    words = ["pass", "mint", "--campaign", campaign, "--users", str(users)]
    call(env, *words, "--prefix", prefix, "--out", str(file))
