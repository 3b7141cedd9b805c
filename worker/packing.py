"""Outbox entries as `messages` makes them, already in the bytes of Kafka's log: its hot twin.

What does not change within a campaign is made once; a fact is then two forms filled in, 1.9 instead
of 3.9 µs. A test holds both twins to the same bytes.
"""

from functools import lru_cache

from flashgrab.broker import Packed, pack, packed_headers, varint
from flashgrab.broker.batch import SIZES
from flashgrab.clock import to_rfc3339
from flashgrab.events import KINDS, OutboxEntry
from flashgrab.ids import is_campaign_id
from worker.messages import headers, messages

_ZERO = ord("0")
_TIME = b"\0" * len("2026-11-22T10:00:00.000Z")
CAMPAIGNS = 64
"""Campaigns whose forms are kept."""
LINE_MAX = 4000
"""Bytes of a line here; all lengths in its record then have their place in SIZES."""


def packed(campaign_id: str, entry: OutboxEntry) -> list[Packed]:
    """One record a fact, in seq order. Raises ValueError where the entry is torn."""
    text = entry.lines
    plain = text.isascii() and text.isprintable() and '"' not in text and not entry.trace
    if plain and is_campaign_id(campaign_id):
        lines = text.encode().split(b";")
        whole = len(lines) == entry.last_seq - entry.first_seq + 1
        if whole and "\\" not in text and max(map(len, lines)) <= LINE_MAX:
            try:
                return _packed(campaign_id.encode(), entry, lines)
            except (LookupError, ValueError):
                pass  # the twin says why
    return [pack(record) for record in messages(campaign_id, entry)]


def _packed(campaign_id: bytes, entry: OutboxEntry, lines: list[bytes]) -> list[Packed]:
    """Raises LookupError or ValueError where a line has not the form of grab.lua."""
    sizes, at_ms = SIZES, entry.at_ms
    time, ms = to_rfc3339(at_ms).encode(), b"%d" % at_ms
    if len(time) != len(_TIME):
        raise ValueError("a time beyond the year 9999")
    forms = _forms(campaign_id, entry.epoch)
    event_id = b"%b-%d-%%d" % (campaign_id, entry.epoch)
    found = []
    for seq, line in enumerate(lines, entry.first_seq):
        kind, serial, number, user, device, request = line.split(b",")
        value_form, form = forms[kind]
        if not (serial + number).isdigit() or serial[0] == _ZERO or number[0] == _ZERO:
            raise ValueError("another form of numbers")
        value = value_form % (seq, serial, serial, user, device, number, request, ms)
        ce_id = event_id % seq
        sized = (sizes[len(user)], user, sizes[len(value)], value, sizes[len(ce_id)], ce_id, time)
        found.append((user, form % sized, at_ms))
    return found


@lru_cache(CAMPAIGNS)
def _forms(campaign_id: bytes, epoch: int) -> dict[bytes, tuple[bytes, bytes]]:
    """By kind: what events.encode writes, and a record; with places for what changes."""
    forms = {}
    for kind, event in KINDS.items():
        value = (
            b'{"event":"%b","version":1,"seq":%%d,"grab_id":"%b-%%b","campaign_id":"%b"'
            b',"serial":%%b,"user_id":"%%b","device_id":"%%b","round":%%b,"request_id":"%%b"'
            b',"epoch":%d,"at_ms":%%b}'
        ) % (event.encode(), campaign_id, campaign_id, epoch)
        first, (name, _), *rest = headers(event, b"", _TIME)
        number = varint(2 + len(rest))
        before = number + packed_headers([first]) + varint(len(name)) + name.encode()
        after = _plain(packed_headers(rest)).replace(_TIME, b"%b")
        forms[kind.encode()] = value, b"%b%b%b%b" + _plain(before) + b"%b%b" + after
    return forms


def _plain(text: bytes) -> bytes:
    """As a piece of a form."""
    return text.replace(b"%", b"%%")
