"""What Redis keeps of campaigns, gateways and relays, as store.py reads it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from flashgrab import scripts
from flashgrab.events import Entry


@dataclass(frozen=True, slots=True)
class RoundState:
    """A round as Redis has it: times in ms, the rest in coupons."""

    number: int
    opens_at: int
    closes_at: int
    quota: int
    left: int
    granted: int
    returned: int


@dataclass(frozen=True, slots=True)
class CampaignState:
    """A campaign as Redis has it; all numbers of one moment."""

    campaign_id: str
    schema: str
    epoch: int
    run: str
    generation: int
    version: int
    status: str
    definition: Mapping[str, Any]
    per_user: int
    per_device: int
    serial: int
    seq: int
    watermark: int
    holes: str
    rounds: tuple[RoundState, ...]

    @property
    def waits_for_replica(self) -> bool:
        """Whether a grant is told only when a replica has it (flashgrab/model.py, Durability)."""
        return self.definition.get("durability") == "replica"


@dataclass(frozen=True, slots=True)
class Books:
    """What lua/books.lua read: counters, and outbox entries above a watermark, of one moment."""

    epoch: int
    seq: int
    serial: int
    watermark: int
    rounds: tuple[tuple[int, int, int, int], ...]
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class OutboxStanding:
    """Where a campaign stands in Redis; `entries` wait in the outbox.

    Nothing of a campaign changes in Redis without one of these changing.
    """

    epoch: int
    run: str
    generation: int
    seq: int
    watermark: int
    holes: str
    entries: int


class Returning(NamedTuple):
    """A grant that is to come back: what names it in its holder's entry."""

    serial: int
    round: int
    user_id: str
    device_id: str


@dataclass(frozen=True, slots=True)
class LeaseReply:
    """What lua/lease.lua said: whether the caller holds it now, its epoch, ms until its end."""

    held: bool
    epoch: int
    left_ms: int


@dataclass(frozen=True, slots=True)
class GatewayReport:
    """What a gateway last said of itself: its server's run_id, when (ms), its floors."""

    run: str
    at_ms: int
    floors: Mapping[str, int]


STANDING = ["schema", "epoch", "run", "generation", "seq", "watermark", "holes"]


def read_standing(fields: Any, entries: Any) -> OutboxStanding | None:
    """None where the key is missing or has not a form that this release knows: others must not
    suffer from it, and nothing may be read out of it, or trimmed."""
    try:
        schema, epoch, run, generation, seq, watermark, holes = fields
        if schema not in scripts.READS:
            return None
        return OutboxStanding(
            int(epoch), run, int(generation), int(seq), int(watermark), holes, int(entries)
        )
    except (TypeError, ValueError):
        return None


def read_campaign(
    campaign_id: str, campaign: Mapping[str, str], rounds: Sequence[Mapping[str, str]]
) -> CampaignState:
    return CampaignState(
        campaign_id=campaign_id,
        schema=campaign["schema"],
        epoch=int(campaign["epoch"]),
        run=campaign["run"],
        generation=int(campaign["generation"]),
        version=int(campaign["version"]),
        status=campaign["status"],
        definition=json.loads(campaign["definition"]),
        per_user=int(campaign["per_user"]),
        per_device=int(campaign["per_device"]),
        serial=int(campaign["serial"]),
        seq=int(campaign["seq"]),
        watermark=int(campaign["watermark"]),
        holes=campaign["holes"],
        rounds=tuple(
            RoundState(
                number,
                *(
                    int(row[name])
                    for name in ("opens_at", "closes_at", "quota", "left", "granted", "returned")
                ),
            )
            for number, row in enumerate(rounds, 1)
        ),
    )
