"""A claim link's token: who has it may get a pass of one campaign until it expires.

Form: `l1.KID/CAMPAIGN/USER/CHANNEL/EXPIRES_MS/MAC`; USER and CHANNEL may be empty. Signed by the
keys of the passes under another name (`person`), so that neither can ever be taken for the other.
How often a link may be used is not known here: that needs a count, and the check has no I/O.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2s
from hmac import compare_digest
from typing import NamedTuple

from flashgrab.ids import is_campaign_id, is_channel, is_user_id
from flashgrab.passes import mac, signing_keys

LINK_LENGTH_MAX = 256


class Link(NamedTuple):
    """What a valid token says. `user_id` is "" where it is for anybody."""

    campaign_id: str
    user_id: str
    channel: str
    expires_ms: int


@dataclass(frozen=True, slots=True)
class LinkKeys:
    """Signing keys by kid: the first signs, all verify."""

    keys: Mapping[str, blake2s] = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> "LinkKeys":
        """From the text of PASS_KEYS. Raises ValueError."""
        return cls(signing_keys(text, b"fg-link"))

    def sign(self, link: Link) -> str:
        """The token. Raises ValueError on an id that is not of its form."""
        if not is_campaign_id(link.campaign_id):
            raise ValueError(f"not a campaign id: {link.campaign_id!r}")
        if link.user_id and not is_user_id(link.user_id):
            raise ValueError(f"not a user id: {link.user_id!r}")
        if link.channel and not is_channel(link.channel):
            raise ValueError(f"not a channel: {link.channel!r}")
        kid, key = next(iter(self.keys.items()))
        body = f"l1.{kid}/{link.campaign_id}/{link.user_id}/{link.channel}/{link.expires_ms}"
        return f"{body}/{mac(key, body)}"

    def check(self, token: str, now_ms: int) -> Link | None:
        """What a token says, or None: bad, expired and unsigned are one answer."""
        if len(token) > LINK_LENGTH_MAX or not token.isascii():
            return None
        body, _, signed = token.rpartition("/")
        version, _, kid = body.partition("/")[0].partition(".")
        key = self.keys.get(kid)
        if version != "l1" or key is None or not compare_digest(mac(key, body), signed):
            return None
        _, campaign_id, user_id, channel, expires_ms = body.split("/")
        link = Link(campaign_id, user_id, channel, int(expires_ms))
        return link if link.expires_ms > now_ms else None

    def admits(self, token: str, campaign_id: str, user_id: str, now_ms: int) -> bool:
        """Whether a token lets this user into this campaign."""
        link = self.check(token, now_ms)
        return (
            link is not None and link.campaign_id == campaign_id and link.user_id in ("", user_id)
        )
