"""Campaign ids for the shell's completion: asked of the centre, and nothing at all where it does
not answer at once. Imports little: it runs at every Tab."""

import http.client
import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from typer import Context

from flashgrab.cli import target

WITHIN_S = 0.3
"""A person who presses Tab waits no longer."""
BYTES_MAX = 1_000_000


def campaign_ids(ctx: Context, incomplete: str) -> list[str]:
    """Ids that begin with what was typed; silent on any failure: there is no place to complain."""
    try:
        with _in_time():
            found = target.find(_data(ctx))
            ids = _ask(found.centre_url, found.admin_token)
    except Exception:
        return []
    return [campaign_id for campaign_id in ids if campaign_id.startswith(incomplete)]


@contextmanager
def _in_time() -> Iterator[None]:
    """TimeoutError after WITHIN_S, whatever the block waits for: also an answer that trickles."""

    def too_late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, too_late)
    signal.setitimer(signal.ITIMER_REAL, WITHIN_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _data(ctx: Context) -> Path | None:
    data = ctx.params.get("data")
    return Path(data) if data else None


def _ask(centre_url: str, admin_token: str) -> list[str]:
    where = urlsplit(centre_url)
    secure = where.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(where.hostname or "", where.port)
    try:
        bearer = {"Authorization": f"Bearer {admin_token}"}
        connection.request("GET", "/v1/campaigns", headers=bearer)
        answer = connection.getresponse()
        body = json.loads(answer.read(BYTES_MAX))
    finally:
        connection.close()
    return [str(campaign["campaign_id"]) for campaign in body["campaigns"]]
