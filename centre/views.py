"""How campaigns look to an operator, as plain JSON."""

from typing import Any

from flashgrab.clock import to_rfc3339
from flashgrab.ledger.campaigns import Campaign
from flashgrab.ledger.rebuilds import Rebuild
from flashgrab.state import CampaignState


def brief(campaign: Campaign) -> dict[str, Any]:
    """One line of a list: what the ledger knows."""
    rounds = campaign.rounds
    return {
        "campaign_id": campaign.campaign_id,
        "name": campaign.definition["name"],
        "status": campaign.status,
        "version": campaign.version,
        "applied": 0 < campaign.applied_version == campaign.version,
        "rounds": len(rounds) or len(campaign.definition["rounds"]),
        "quota": sum(r["quota"] for r in campaign.definition["rounds"])
        if not rounds
        else sum(r.quota for r in rounds),
        "opens_at": to_rfc3339(rounds[0].opens_at) if rounds else None,
        "closes_at": to_rfc3339(rounds[-1].closes_at) if rounds else None,
        "created_at": to_rfc3339(campaign.created_ms),
    }


def full(
    campaign: Campaign, state: CampaignState | None, run: str, trouble: str | None
) -> dict[str, Any]:
    """Ledger and Redis side by side. `run` is the run_id of the server, "" where it is away.

    `granted` and `returned` of the ledger's rounds count what was persisted. `warmed`: Redis has
    the campaign; `confirmed`: it is sure that it has all of it, and grants.
    """
    return brief(campaign) | {
        "applied_version": campaign.applied_version,
        "epoch": campaign.epoch,
        "operation": campaign.operation,
        "published_at": to_rfc3339(campaign.published_ms) if campaign.published_ms else None,
        "definition": campaign.definition,
        "rounds": [
            {
                "round": r.number,
                "opens_at": to_rfc3339(r.opens_at),
                "closes_at": to_rfc3339(r.closes_at),
                "quota": r.quota,
                "granted": r.granted,
                "returned": r.returned,
            }
            for r in campaign.rounds
        ],
        "warmed": state is not None,
        "confirmed": state is not None and bool(run) and state.run == run,
        "redis": _redis(state) if state else None,
        "trouble": trouble,
    }


def rebuild(last: Rebuild | None) -> dict[str, Any] | None:
    """The latest rebuild, and what it may have cost: `lost_max` is the most acknowledgements that
    nobody knows any more, `lost_seen` how many of those facts a gateway has seen."""
    if last is None:
        return None
    names = ("epoch", "cut", "coupons", "taken_over", "lost_max", "lost_seen")
    return {
        "operation": last.operation,
        "step": last.step,
        "begun_at": to_rfc3339(last.begun_ms),
        "ended_at": to_rfc3339(last.ended_ms) if last.ended_ms else None,
        **{name: (last.report or {}).get(name) for name in names},
    }


def _redis(state: CampaignState) -> dict[str, Any]:
    return {
        "schema": state.schema,
        "status": state.status,
        "version": state.version,
        "epoch": state.epoch,
        "generation": state.generation,
        "run": state.run,
        "serial": state.serial,
        "seq": state.seq,
        "watermark": state.watermark,
        "rounds": [
            {
                "round": r.number,
                "quota": r.quota,
                "left": r.left,
                "granted": r.granted,
                "returned": r.returned,
            }
            for r in state.rounds
        ],
    }
