"""The shapes of the console's data, from the parts to the page.

A part answers `/recent?since=MS` with `Said` (flashgrab/recent.py): its rows of 100 ms (`Row`),
its processes and some values of now. The centre joins the rows of all gateways on one axis, adds up
ten of them to a `Second`, and puts beside it what it knows at its end: `Book` by campaign. Seconds
in which something happened are kept for 24 h in `console_seconds`; around each opening their rows
of 100 ms stay with them, for 400 days.

A page looks at one campaign, so it gets `flat()` rows, of a step or of a second alike:

    {"t": ms since 1970, "grabs": {outcome: count}, "seconds": [count by latency bucket],
     "calls": script calls, "requests": grabs in them, "left": {round: coupons},
     "book": {"quota", "left", "granted", "returned", "persisted", "watermark", "seq", "outbox",
              "relay_ms", "ledger_ms", "lights": "111111", "lefts": {round: coupons}}}

A book is of the whole campaign; only `lefts` tells its rounds apart.

What did not happen is left out. `seconds`, `calls` and `requests` are of all campaigns, for nothing
counts them by campaign; `lights` are I1 to I6: 1 kept, 0 broken, ? not looked at.

GET /ops/stream?campaign=ID sends events `tick`, the first one with `"whole": true` and the last two
minutes, unless Last-Event-ID (an `until`) says what the page has:

    {"whole": bool, "now": ms, "until": ms, "rows": [flat …], "seconds": [flat …],
     "campaign": {"id", "name", "status",
                  "rounds": [{"round", "opens_at", "closes_at", "quota", "sold_out_at"}]},
     "book": …, "parts": [Part …], "alarms": [{"alarm", "words", "part", "since", "runbook"}],
     "notes": [{"t", "kind", "words"}], "ledger": whether PostgreSQL answers, "bounds": [seconds]}

GET /ops/history?campaign=ID&from=MS&to=MS answers the same rows of the past:

    {"from", "to", "step": ms, "rows": [flat …], "notes": […], "bounds", "campaign": …}

and GET /ops/campaigns?find=TEXT the campaigns to choose from, each as above:

    {"now": ms, "campaigns": [{"id", "name", "status", "rounds"}, the nearest first]}

History has steps of 100 ms where they are kept and the time is short, else of a second or more, so
that no answer has more than POINTS_MAX rows.
"""

from typing import Any

import msgspec
from msgspec import Struct

from flashgrab.recent import Row

SECOND_MS = 1000


class Book(Struct):
    """The books of one campaign at one moment; None where nobody who knows it answers."""

    quota: int | None = None
    left: int | None = None
    granted: int | None = None
    returned: int | None = None
    persisted: int | None = None
    watermark: int | None = None
    seq: int | None = None
    outbox: int | None = None
    relay_ms: int | None = None
    ledger_ms: int | None = None
    lights: str = "??????"
    lefts: dict[str, int] = {}  # msgspec copies it


class Second(Row, omit_defaults=True):
    """Ten rows, and the books as they were when it ended."""

    books: dict[str, Book] = {}  # noqa: RUF012 # msgspec copies it


class Part(Struct):
    """A process, or a part that does not answer (`pid` None then, and `down` says why)."""

    part: str
    pid: int | None = None
    version: str = ""
    cpu: float | None = None
    memory: int | None = None
    connections: int | None = None
    up_since: int | None = None
    down: str = ""


def flat(row: Row, campaign_id: str) -> dict[str, Any]:
    """What a page gets of a row that looks at this campaign."""
    found: dict[str, Any] = {"t": row.t}
    if grabs := row.grabs.get(campaign_id):
        found["grabs"] = grabs
    if row.calls or any(row.seconds):
        found |= {"seconds": row.seconds, "calls": row.calls, "requests": row.requests}
    if left := row.left.get(campaign_id):
        found["left"] = left
    if isinstance(row, Second) and (book := row.books.get(campaign_id)):
        found["book"] = msgspec.to_builtins(book)
    return found


def is_bare(flat_row: dict[str, Any]) -> bool:
    """Whether nothing of it is worth telling."""
    return len(flat_row) == 1
