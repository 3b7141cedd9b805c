"""Buyers at work: repeats, bounds and what they make of an answer."""

import asyncio
from typing import Any

import pytest

from flashgrab.cli.rehearsal.connection import Address, Reply
from flashgrab.cli.rehearsal.crowd import (
    Answered,
    Ask,
    Crowd,
    Pace,
    grab_request,
    read_body,
    read_outcome,
    together,
)
from flashgrab.outcomes import Outcome
from tests.cli.rehearsal.scripted import Gateway, Scripted, key_of, scripted

GRANT = {"grab_id": "c-1", "serial": 1}


def send(gateway: Gateway, asks: list[Ask], **how: Any) -> Any:
    """Coroutine: the answers of these asks."""

    async def story() -> list[Answered]:
        answers: list[Answered] = []
        crowd = Crowd(
            gateway.address,
            lambda campaign, user: f"pass-{campaign}-{user}",
            **{"connections": 4, **how},
        )
        await crowd.send(asks, answers.append)
        return answers

    return story()


def test_a_grab_is_what_the_contract_says() -> None:
    """Route, pass, key, and an empty body."""
    request = grab_request(Address("h", 1, secure=False), Ask("c", "u", "k"), "token")
    assert request == (
        b"POST /v1/campaigns/c/grabs HTTP/1.1\r\nHost: h:1\r\nAuthorization: Bearer token\r\n"
        b"Idempotency-Key: k\r\nContent-Length: 0\r\n\r\n"
    )


def test_every_ask_is_answered_once() -> None:
    """A hundred asks over four connections: a hundred answers, each to its own ask."""

    async def story() -> None:
        def answer(head: str) -> Scripted:
            return 201, {"grab_id": f"c-{key_of(head)}"}

        async with scripted(answer) as gateway:
            asks = [Ask("c", f"u{n}", f"{n}") for n in range(1, 101)]
            answers = await send(gateway, asks)
            assert sorted(a.ask for a in answers) == sorted(asks)
            assert all(a.grab_ids == (f"c-{a.ask.key}",) for a in answers)
            assert gateway.connections == 4

    asyncio.run(story())


@pytest.mark.parametrize(
    "first",
    [
        None,
        (503, {"code": "BUSY", "retry_after_ms": 5}),
        (429, {"code": "RATE_LIMITED", "retry_after_ms": 5}),
        (409, {"code": "NOT_STARTED", "retry_after_ms": 5}),
        (502, {}),
    ],
    ids=["lost", "503", "429", "too early", "502"],
)
def test_what_is_not_final_is_repeated_with_the_same_key(first: Scripted) -> None:
    """Lost, 503, 429, too early and 502: the same key again, and the replay is the answer."""
    answers = [first, (200, {**GRANT, "replayed": True})]

    async def story() -> None:
        async with scripted(lambda _head: answers.pop(0)) as gateway:
            (answer,) = await send(gateway, [Ask("c", "u", "k")])
            assert (answer.outcome, answer.grab_ids) == (Outcome.REPLAYED, ("c-1",))
            assert answer.repeats == 1
            assert [key_of(head) for head in gateway.heads] == ["k", "k"]

    asyncio.run(story())


def test_patience_ends() -> None:
    """A gateway that stays silent is given up, and said so; one that stays busy is told as that."""

    async def story() -> None:
        async with scripted(lambda _head: None) as gateway:
            (lost,) = await send(gateway, [Ask("c", "u", "k")], patience_s=0.2)
            assert lost.outcome is None
            assert lost.said.startswith("no answer")
            assert lost.repeats >= 1
        busy = (503, {"code": "BUSY", "retry_after_ms": 60_000})
        async with scripted(lambda _head: busy) as gateway:
            (refused,) = await send(gateway, [Ask("c", "u", "k")], patience_s=0.2)
            assert (refused.outcome, refused.repeats) == (Outcome.BUSY, 0)

    asyncio.run(story())


def test_a_pace_is_kept_and_not_caught_up() -> None:
    """10 a second: one every 100 ms, and after a pause of a minute again one every 100 ms."""
    pace = Pace(10)
    assert [round(pace.due(5.0), 3) for _ in range(3)] == [5.0, 5.1, 5.2]
    assert [round(pace.due(65.0), 3) for _ in range(3)] == [65.0, 65.1, 65.2]


def test_a_paced_crowd_takes_its_time() -> None:
    """20 asks at 100 a second take at least 190 ms."""

    async def story() -> None:
        async with scripted(lambda _head: (201, GRANT)) as gateway:
            answers = await send(gateway, [Ask("c", "u", "k")] * 20, pace=100)
            first, last = min(a.began_s for a in answers), max(a.began_s for a in answers)
            assert last - first >= 0.18

    asyncio.run(story())


@pytest.mark.parametrize("outcome", list(Outcome), ids=lambda outcome: outcome.name)
def test_every_outcome_is_recognised(outcome: Outcome) -> None:
    """Each outcome's own status and code give that outcome back."""
    if outcome is Outcome.GRANTED:
        body: dict[str, Any] = GRANT
    elif outcome is Outcome.REPLAYED:
        body = {**GRANT, "replayed": True}
    else:
        body = {"code": outcome.name}
    assert read_outcome(outcome.value.status, body)[0] is outcome


@pytest.mark.parametrize(
    "status, body",
    [
        (200, GRANT),
        (201, {}),
        (409, {"code": "NEW_CODE"}),
        (409, {"code": "BUSY"}),
        (201, {"code": "GRANTED"}),
        (500, {}),
    ],
)
def test_what_the_contract_has_not_is_no_outcome(status: int, body: dict[str, Any]) -> None:
    """A 200 that is no replay, a grant without id, an unknown code, a code with another status."""
    assert read_outcome(status, body) == (None, ())


def test_user_limit_names_what_the_buyer_holds() -> None:
    """`grab_ids` come along; without them, or with nonsense, nothing does."""
    held = {"code": "USER_LIMIT", "grab_ids": ["c-1", "c-2"]}
    assert read_outcome(409, held) == (Outcome.USER_LIMIT, ("c-1", "c-2"))
    assert read_outcome(409, {"code": "USER_LIMIT", "grab_ids": 7}) == (Outcome.USER_LIMIT, ())


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b"null"])
def test_a_body_that_is_no_object_is_an_empty_one(body: bytes) -> None:
    """A proxy's page does not break a crowd."""
    assert read_body(Reply(502, body)) == {}


def test_the_first_error_stops_the_others() -> None:
    """`together` raises the error itself, and leaves nothing running."""
    going: list[str] = []

    async def bad() -> None:
        raise ValueError("no")

    async def long() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            going.append("stopped")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(together([long(), bad(), long()]))
    assert going == ["stopped", "stopped"]
