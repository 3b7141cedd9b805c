"""Public states as they are sent: their tags, and the list of all campaigns."""

from collections.abc import Mapping
from hashlib import blake2s
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import orjson

from flashgrab.clock import to_rfc3339
from flashgrab.state import CampaignState
from gateway.campaigns import Campaign, Catalogue
from gateway.replies import campaign_body

SECOND_MS = 1000
"""For so long a state that does not change has the same tag, and the list is the same."""


class Shown(NamedTuple):
    """A public state as it is sent, up to its end, and its ETag."""

    state: bytes
    tag: str

    def at(self, now_ms: int, more: Mapping[str, str] | None = None) -> bytes:
        """All of it, with the server's time and what else is of this moment."""
        return self.state + orjson.dumps({"server_time": to_rfc3339(now_ms), **(more or {})})[1:]


class Known(NamedTuple):
    """One campaign in the list, and what it was made of."""

    state: CampaignState
    left: list[int]
    status: str
    body: orjson.Fragment


class Listed:
    """The list, made at most once a second, of parts that are made when they change: of 2,000
    campaigns that are over, making it all for each view held up the grabs for 36 ms."""

    def __init__(self) -> None:
        self._parts: WeakKeyDictionary[Campaign, Known] = WeakKeyDictionary()
        self._second = 0
        self._shown = Shown(b"", "")

    def of(self, catalogue: Catalogue, now_ms: int) -> Shown:
        """All campaigns, as they are in this second."""
        if self._second != now_ms // SECOND_MS:
            self._second = now_ms // SECOND_MS
            parts = [self._part(c, c.state, now_ms) for c in catalogue if c.state is not None]
            self._shown = shown({"campaigns": parts}, now_ms)
        return self._shown

    def _part(self, campaign: Campaign, state: CampaignState, now_ms: int) -> orjson.Fragment:
        known, status = self._parts.get(campaign), campaign.status(now_ms)
        if known and known[:3] == (state, campaign.left, status):
            return known.body
        body = orjson.Fragment(orjson.dumps(campaign_body(campaign, now_ms)))
        self._parts[campaign] = Known(state, campaign.left, status, body)
        return body


def shown(body: dict[str, Any], now_ms: int) -> Shown:
    """The tag is of the state and the second: a cache that is told 304 goes on giving the time that
    it has (and the page's stamp), and whoever counts down by it must not be told an old one."""
    state = orjson.dumps(body)
    digest = blake2s(b"%d %b" % (now_ms // SECOND_MS, state), digest_size=8)
    return Shown(state[:-1] + b",", f'W/"{digest.hexdigest()}"')
