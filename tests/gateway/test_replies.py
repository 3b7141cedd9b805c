"""What goes back to the client, as bytes and headers."""

from dataclasses import replace
from typing import Any

import orjson
import pytest
from starlette.responses import Response

from flashgrab.outcomes import Outcome
from flashgrab.state import CampaignState, RoundState
from gateway.campaigns import Campaign
from gateway.decisions import Decision, Grant
from gateway.replies import campaign_body, grab_reply, grant_state, json_reply, problem

GRANT = Grant(serial=7, seq=9, round=1, state="g", request_id="k")
STATE = CampaignState(
    campaign_id="sale", schema="1", epoch=1, run="r", generation=1, version=1, status="PUBLISHED",
    definition={"name": "Sale", "rule": {"kind": "amount_off", "amount": 1, "threshold": 2}},
    per_user=2, per_device=0, serial=0, seq=0, watermark=0, holes="",
    rounds=(RoundState(1, 1000, 2000, 5, 4, 1, 0), RoundState(2, 3000, 4000, 7, 7, 0, 0)),
)  # fmt: skip


@pytest.fixture
def campaign() -> Campaign:
    known = Campaign("sale")
    known.update(STATE)
    return known


def body(response: Response) -> Any:
    return orjson.loads(bytes(response.body))


@pytest.mark.parametrize("outcome", [o for o in Outcome if o.value.status >= 400])
def test_every_refusal_is_a_problem(outcome: Outcome) -> None:
    """RFC 9457 members, the code, and Retry-After exactly where the contract has it."""
    response = problem(outcome)
    said = body(response)
    assert {"type", "title", "status", "code", "detail"} <= set(said)
    assert (said["status"], said["code"]) == (response.status_code, outcome.name)
    assert response.media_type == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    if response.status_code in (429, 503):
        assert "retry_after_ms" in said
    assert ("retry-after" in response.headers) == ("retry_after_ms" in said)
    assert ("www-authenticate" in response.headers) == (response.status_code == 401)
    assert (response.headers.get("connection") == "close") == (
        response.status_code in (408, 413, 414, 431)
    )


def test_retry_after_has_jitter_within_its_bounds() -> None:
    """A crowd is spread over one to two times the base; the header rounds up to seconds."""
    waits = [body(problem(Outcome.BUSY))["retry_after_ms"] for _ in range(200)]
    assert 1000 <= min(waits) < 1200
    assert 1800 < max(waits) < 2000
    for wait_ms, header in [(0, "0"), (1, "1"), (1000, "1"), (1001, "2")]:
        response = problem(Outcome.NOT_STARTED, retry_after_ms=wait_ms)
        assert response.headers["retry-after"] == header


def test_not_started_judges_by_the_time_of_the_script(campaign: Campaign) -> None:
    """A round that opens while the reply is on its way is the one that is named, at once; not the
    next one, hours later."""
    decision = Decision(Outcome.NOT_STARTED, (), at_ms=999)
    said = body(grab_reply(campaign, decision, now_ms=1003))
    assert (said["opens_at"], said["retry_after_ms"]) == ("1970-01-01T00:00:01.000Z", 0)
    said = body(grab_reply(campaign, decision, now_ms=600))
    assert said["retry_after_ms"] == 400
    between = Decision(Outcome.NOT_STARTED, (), at_ms=2000)
    said = body(grab_reply(campaign, between, now_ms=2100))
    assert (said["opens_at"], said["retry_after_ms"]) == ("1970-01-01T00:00:03.000Z", 900)


@pytest.mark.parametrize("at_ms, following", [(1500, "1970-01-01T00:00:03.000Z"), (3500, None)])
def test_sold_out_names_the_next_round_if_there_is_one(
    campaign: Campaign, at_ms: int, following: str | None
) -> None:
    """next_opens_at is there exactly where another round follows the one that was sold out."""
    said = body(grab_reply(campaign, Decision(Outcome.SOLD_OUT, (), at_ms), now_ms=at_ms + 5))
    assert said.get("next_opens_at") == following


def test_user_limit_names_what_is_held_now(campaign: Campaign) -> None:
    """Grabs that were given back are not held any more."""
    back = GRANT._replace(serial=5, state="r")
    decision = Decision(Outcome.USER_LIMIT, (back, GRANT, GRANT._replace(serial=8)), 1500)
    assert body(grab_reply(campaign, decision, 1500))["grab_ids"] == ["sale-7", "sale-8"]


def test_granted_and_replayed_differ_in_status_place_and_mark(campaign: Campaign) -> None:
    """201 with Location; 200 with replayed: the rest is the same."""
    granted = grab_reply(campaign, Decision(Outcome.GRANTED, (GRANT,)), 1500)
    replayed = grab_reply(campaign, Decision(Outcome.REPLAYED, (GRANT,)), 1500)
    assert (granted.status_code, replayed.status_code) == (201, 200)
    assert granted.headers["location"] == "/v1/grabs/sale-7"
    assert "location" not in replayed.headers
    assert body(replayed) == {**body(granted), "replayed": True}


@pytest.mark.parametrize(
    "state, seq, watermark, expected",
    [
        ("g", 9, 8, "GRANTED"),
        ("g", 9, 9, "PERSISTED"),
        ("g", 0, 9, "GRANTED"),
        ("r", 9, 8, "RETURNED"),
        ("r", 9, 9, "RETURNED"),
    ],
)
def test_the_state_of_a_grant(
    campaign: Campaign, state: str, seq: int, watermark: int, expected: str
) -> None:
    """GRANTED until the watermark reaches its seq (0: just granted), RETURNED for good."""
    campaign.update(replace(STATE, seq=10, watermark=watermark))
    assert grant_state(campaign, GRANT._replace(state=state, seq=seq)) == expected


def test_the_public_state_of_a_campaign(campaign: Campaign) -> None:
    """Exactly these fields; times as text, left from the last reply."""
    campaign.learn(1, 3, 1, 2)
    assert campaign_body(campaign, 1500) == {
        "campaign_id": "sale",
        "name": "Sale",
        "status": "CLAIMABLE",
        "per_user": 2,
        "per_device": 0,
        "rule": {"kind": "amount_off", "amount": 1, "threshold": 2},
        "rounds": [
            {
                "round": 1,
                "opens_at": "1970-01-01T00:00:01.000Z",
                "closes_at": "1970-01-01T00:00:02.000Z",
                "quota": 5,
                "left": 2,
            },
            {
                "round": 2,
                "opens_at": "1970-01-01T00:00:03.000Z",
                "closes_at": "1970-01-01T00:00:04.000Z",
                "quota": 7,
                "left": 7,
            },
        ],
    }


def test_an_answer_is_json() -> None:
    """Status, headers and media type of a plain answer."""
    response = json_reply({"a": 1}, 201, {"X-Test": "1"})
    assert (response.status_code, bytes(response.body)) == (201, b'{"a":1}')
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-test"] == "1"
