"""Management in the ledger: closed transitions, operations that apply once, nothing half done."""

import asyncio
from typing import Any, get_args

import msgspec
import pytest

from flashgrab.errors import DefinitionInvalid, OperationRefused
from flashgrab.ledger import campaigns
from flashgrab.ledger.campaigns import LedgerRound
from flashgrab.ledger.operations import (
    MOVES,
    Action,
    CampaignExists,
    Change,
    Difference,
    Operations,
    differences,
)
from flashgrab.model import QUOTA_MAX, Definition, Status, parse
from tests.centre.serving import NOW_MS, Sides, definition, operation

pytestmark = pytest.mark.anyio

ACTIONS: tuple[Action, ...] = get_args(Action)
STATUSES: tuple[Status, ...] = get_args(Status)
TO_REACH: dict[Status, tuple[Action, ...]] = {
    "DRAFT": (),
    "PUBLISHED": ("publish",),
    "PAUSED": ("publish", "pause"),
    "OFFLINE": ("publish", "close"),
}


def made(**fields: Any) -> Definition:
    return parse(definition(**fields), "test")


def change(action: Action) -> Change:
    return Change(action, 1, 5) if action == "restock" else Change(action)


async def in_status(operations: Operations, status: Status) -> str:
    campaign = made()
    await operations.create(operation(), campaign)
    for action in TO_REACH[status]:
        await operations.change(operation(), campaign.id, change(action))
    return campaign.id


NEW = ("durability", "audience", "segment", "challenge")


async def test_create_makes_a_draft_without_rounds(sides: Sides) -> None:
    """A created campaign is a DRAFT of version 1, with its definition as written."""
    campaign = made(per_user=2)
    result = await sides.operations.create("op-1", campaign)
    assert result.fields == {
        "campaign_id": campaign.id,
        "action": "create",
        "operation": "op-1",
        "status": "DRAFT",
        "version": 1,
    }
    there = await campaigns.get(sides.pool, campaign.id)
    assert there == campaigns.Campaign(
        campaign_id=campaign.id,
        # without the defaults that the release before does not know
        definition={k: v for k, v in msgspec.to_builtins(campaign).items() if k not in NEW},
        status="DRAFT",
        version=1,
        applied_version=0,
        epoch=1,
        per_user=2,
        per_device=0,
        operation="op-1",
        created_ms=NOW_MS,
        published_ms=None,
        rounds=(),
    )


async def test_publish_fixes_relative_times(sides: Sides) -> None:
    """Publishing writes the rounds with times counted from its own moment."""
    campaign = made(
        rounds=[
            {"opens_at": "+10s", "closes_at": "+2h", "quota": 3},
            {"opens_at": "2027-01-16T00:00:00+08:00", "closes_at": "+1m", "quota": 4},
        ]
    )
    await sides.operations.create(operation(), campaign)
    sides.clock.at_ms += 60_000
    await sides.operations.change(operation(), campaign.id, Change("publish"))
    there = await campaigns.get(sides.pool, campaign.id)
    assert there is not None
    first, second = NOW_MS + 70_000, 1_800_028_800_000
    assert there.rounds == (
        LedgerRound(1, first, first + 7_200_000, 3, 0, 0),
        LedgerRound(2, second, second + 60_000, 4, 0, 0),
    )
    assert (there.status, there.version, there.published_ms) == ("PUBLISHED", 2, NOW_MS + 60_000)


async def test_publish_refuses_rounds_that_overlap_once_fixed(sides: Sides) -> None:
    """Times that only clash with each other at publish leave the DRAFT as it was."""
    campaign = made(
        rounds=[
            {"opens_at": "now", "closes_at": "+300d", "quota": 3},
            {"opens_at": "2027-02-01T00:00:00Z", "closes_at": "+1m", "quota": 4},
        ]
    )
    await sides.operations.create(operation(), campaign)
    before = await campaigns.get(sides.pool, campaign.id)
    with pytest.raises(DefinitionInvalid, match=r"rounds\[1\]\.opens_at: must not come before"):
        await sides.operations.change("op-p", campaign.id, Change("publish"))
    assert await campaigns.get(sides.pool, campaign.id) == before
    assert not await sides.rows("SELECT * FROM operations WHERE operation = 'op-p'")


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("action", ACTIONS)
async def test_transitions_are_a_closed_list(sides: Sides, status: Status, action: Action) -> None:
    """Every action in every status: allowed as MOVES says, else refused with nothing changed."""
    campaign_id = await in_status(sides.operations, status)
    await sides.rows("UPDATE campaigns SET applied_version = 1")  # Redis has had it
    before = await campaigns.get(sides.pool, campaign_id)
    assert before is not None
    assert before.status == status
    if status in MOVES[action].allowed:
        result = await sides.operations.change(operation(), campaign_id, change(action))
        after = await campaigns.get(sides.pool, campaign_id)
        assert after is not None
        assert after.status == (MOVES[action].to or status) == result.fields["status"]
        assert after.version == before.version + 1 == result.fields["version"]
        return
    with pytest.raises(OperationRefused, match=f"is {status}; {action} needs ") as caught:
        await sides.operations.change(operation(), campaign_id, change(action))
    assert caught.value.code == "STATUS_CONFLICT"
    assert await campaigns.get(sides.pool, campaign_id) == before


def test_the_list_of_transitions_is_the_one_of_the_design() -> None:
    """DRAFT → publish; PUBLISHED ⇄ PAUSED; both → OFFLINE; restock while either; rebuild what was
    published; no more."""
    assert {(s, a, m.to or s) for a, m in MOVES.items() for s in m.allowed} == {
        ("DRAFT", "publish", "PUBLISHED"),
        ("PUBLISHED", "pause", "PAUSED"),
        ("PAUSED", "resume", "PUBLISHED"),
        ("PUBLISHED", "restock", "PUBLISHED"),
        ("PAUSED", "restock", "PAUSED"),
        ("PUBLISHED", "close", "OFFLINE"),
        ("PAUSED", "close", "OFFLINE"),
        *((status, "rebuild", status) for status in ("PUBLISHED", "PAUSED", "OFFLINE")),
    }


async def test_a_repeated_restock_applies_once(sides: Sides) -> None:
    """The same operation id, also twenty times at once, adds once and answers the same."""
    campaign_id = await in_status(sides.operations, "PUBLISHED")
    results = await asyncio.gather(
        *(sides.operations.change("again", campaign_id, Change("restock", 1, 5)) for _ in range(20))
    )
    assert sum(not result.repeated for result in results) == 1
    assert all(result.fields == results[0].fields for result in results)
    assert results[0].fields["quota"] == 15
    there = await campaigns.get(sides.pool, campaign_id)
    assert there is not None
    assert (there.rounds[0].quota, there.version) == (15, 3)


async def test_restocks_of_different_ids_all_count(sides: Sides) -> None:
    """Twenty restocks at once are serialised by the row: none is lost, versions are dense."""
    campaign_id = await in_status(sides.operations, "PUBLISHED")
    results = await asyncio.gather(
        *(
            sides.operations.change(operation(), campaign_id, Change("restock", 1, 1))
            for _ in range(20)
        )
    )
    assert sorted(r.fields["version"] for r in results) == list(range(3, 23))
    assert sorted(r.fields["quota"] for r in results) == list(range(11, 31))


async def test_a_repeat_answers_the_first_result_after_later_changes(sides: Sides) -> None:
    """What an operation answered stays its answer, whatever came after it."""
    campaign_id = await in_status(sides.operations, "PUBLISHED")
    first = await sides.operations.change("op-pause", campaign_id, Change("pause"))
    await sides.operations.change(operation(), campaign_id, Change("close"))
    again = await sides.operations.change("op-pause", campaign_id, Change("pause"))
    assert (again.fields, again.repeated) == (first.fields, True)


@pytest.mark.parametrize(
    "other",
    [Change("restock", 1, 6), Change("restock", 2, 5), Change("pause")],
    ids=["add", "round", "action"],
)
async def test_an_operation_id_of_another_request_is_refused(sides: Sides, other: Change) -> None:
    """The same id with another request is IDEMPOTENCY_KEY_REUSED and changes nothing."""
    campaign_id = await in_status(sides.operations, "PUBLISHED")
    await sides.operations.change("op-1", campaign_id, Change("restock", 1, 5))
    before = await campaigns.get(sides.pool, campaign_id)
    with pytest.raises(OperationRefused) as caught:
        await sides.operations.change("op-1", campaign_id, other)
    assert caught.value.code == "IDEMPOTENCY_KEY_REUSED"
    assert await campaigns.get(sides.pool, campaign_id) == before


async def test_an_operation_id_belongs_to_one_campaign(sides: Sides) -> None:
    """The id of one campaign's operation cannot be used for another campaign."""
    one, two = [await in_status(sides.operations, "PUBLISHED") for _ in range(2)]
    await sides.operations.change("op-1", one, Change("pause"))
    with pytest.raises(OperationRefused, match="was another request before"):
        await sides.operations.change("op-1", two, Change("pause"))


async def test_create_again_with_the_same_content_changes_nothing(sides: Sides) -> None:
    """Another operation with the same content is told that it is there."""
    campaign = made()
    await sides.operations.create("op-1", campaign)
    await sides.operations.change(operation(), campaign.id, Change("publish"))
    before = await campaigns.get(sides.pool, campaign.id)
    result = await sides.operations.create("op-2", campaign)
    assert (result.there, result.repeated, result.fields["status"]) == (True, False, "PUBLISHED")
    assert await campaigns.get(sides.pool, campaign.id) == before


async def test_create_with_other_content_names_the_differences(sides: Sides) -> None:
    """Other content under a known id is refused field by field."""
    campaign = made(id="known", per_user=2)
    await sides.operations.create(operation(), campaign)
    other = msgspec.structs.replace(campaign, per_user=3, name="Another")
    with pytest.raises(CampaignExists, match="campaign known exists with other content") as caught:
        await sides.operations.create(operation(), other)
    assert caught.value.differences == [
        Difference("name", "A test", "Another"),
        Difference("per_user", 2, 3),
    ]


async def test_creates_of_one_id_at_once_make_one(sides: Sides) -> None:
    """Of many creates at once exactly one creates; the rest find the same content."""
    campaign = made()
    results = await asyncio.gather(
        *(sides.operations.create(operation(), campaign) for _ in range(10))
    )
    assert sum(not result.there for result in results) == 1
    assert len(await sides.rows("SELECT * FROM operations")) == 1


def test_differences_name_every_leaf() -> None:
    """A round more, a rate less, a changed quota: each is one line, in order."""
    there = made(id="x", limits={"user": "5/10s"})
    rounds = [
        {"opens_at": "now", "closes_at": "+1h", "quota": 11},
        {"opens_at": "+2h", "closes_at": "+1h", "quota": 1},
    ]
    assert differences(there, made(id="x", rounds=rounds)) == [
        Difference("rounds[0].quota", 10, 11),
        Difference("limits.user", "5/10s", None),
        Difference("rounds[1].opens_at", None, "+2h"),
        Difference("rounds[1].closes_at", None, "+1h"),
        Difference("rounds[1].quota", None, 1),
    ]


@pytest.mark.parametrize(
    "round_, add, message",
    [(2, 1, "round: campaign .* has rounds 1 to 1"), (1, QUOTA_MAX, "add: the quota would be")],
)
async def test_restock_out_of_bounds(sides: Sides, round_: int, add: int, message: str) -> None:
    """A round that is not there, or a quota beyond the bound, is named and refused."""
    campaign_id = await in_status(sides.operations, "PUBLISHED")
    with pytest.raises(DefinitionInvalid, match=message):
        await sides.operations.change(operation(), campaign_id, Change("restock", round_, add))


async def test_an_unknown_campaign_is_refused(sides: Sides) -> None:
    """A change of a campaign that is not there says so."""
    with pytest.raises(OperationRefused) as caught:
        await sides.operations.change(operation(), "nix", Change("pause"))
    assert caught.value.code == "CAMPAIGN_NOT_FOUND"


async def test_pages_go_through_all_campaigns_once(sides: Sides) -> None:
    """Pages by id, bytewise, whatever the collation: each campaign once."""
    ids = ["a", "a-b", "a0", "a_", "ab", "b"]
    for campaign_id in ids:
        await sides.operations.create(operation(), made(id=campaign_id))
    found: list[str] = []
    while page := await campaigns.page(sides.pool, found[-1] if found else "", 2):
        found += [campaign.campaign_id for campaign in page]
    assert found == sorted(ids)
