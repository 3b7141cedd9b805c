"""Every route besides the outcomes of a grab: passes, readings, health, the demo, refusals."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from blockbuster import blockbuster_ctx
from structlog.testing import capture_logs

from flashgrab import keys
from flashgrab.clock import SystemClock, from_rfc3339
from gateway.redis_clock import SKEW_MS_MAX
from gateway.requests import BODY_BYTES_MAX
from tests.gateway.asking import ORIGIN, ask_pass, assert_problem, identity
from tests.gateway.serving import HOUR_MS, Served, serving, until
from tests.lua.server import Valkey

pytestmark = pytest.mark.anyio


# -- bodies and addresses ------------------------------------------------------------------------


async def _chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_a_grab_has_an_empty_body(served: Served) -> None:
    """A body is 400, one past the bound 413 and the end of the connection; an empty one is fine,
    also where it comes in chunks."""
    campaign_id = await served.campaign(per_user=2)
    assert (await served.grab(campaign_id, content=b"")).status_code == 201
    assert (await served.grab(campaign_id, content=_chunks())).status_code == 201
    for content in (b"{}", _chunks(b"{", b"}"), b"x" * BODY_BYTES_MAX):
        response = await served.grab(campaign_id, content=content)
        assert_problem(response, 400, "INVALID_REQUEST")
        assert response.json()["detail"] == "A grab has an empty body."
    for content in (b"x" * (BODY_BYTES_MAX + 1), _chunks(*[b"x" * 1000] * 5)):
        response = await served.grab(campaign_id, content=content)
        assert_problem(response, 413, "REQUEST_TOO_LARGE")
        assert response.headers["connection"] == "close"


async def test_asking_for_a_pass_takes_no_body(strict: Served) -> None:
    """The same rules for passes."""
    campaign_id = await strict.campaign()
    path = f"/v1/campaigns/{campaign_id}/passes"
    small = await strict.http.post(path, headers=identity(), content=b"{}")
    assert_problem(small, 400, "INVALID_REQUEST")
    large = await strict.http.post(path, headers=identity(), content=b"x" * (BODY_BYTES_MAX + 1))
    assert_problem(large, 413, "REQUEST_TOO_LARGE")


@pytest.mark.parametrize(
    "name",
    ["UPPER", "-x", "_x", "a" * 49, "a%20b", "a%00b", "%7Bc%3Ax%7D", "a%0Ab", "%C3%A9", "a" * 5000],
)
async def test_malformed_campaign_ids(served: Served, name: str) -> None:
    """What cannot be a campaign id is 400 for grabs and passes, 404 to look at; never a key."""
    bearer = {"authorization": f"Bearer {served.token('any', 'u1')}"}
    for what in ("grabs", "passes"):
        response = await served.http.post(f"/v1/campaigns/{name}/{what}", headers=bearer)
        assert_problem(response, 400, "INVALID_REQUEST")
    assert_problem(await served.http.get(f"/v1/campaigns/{name}"), 404, "CAMPAIGN_NOT_FOUND")


async def test_an_id_in_another_spelling_is_the_same(served: Served) -> None:
    """A percent-encoded letter is that letter."""
    campaign_id = await served.campaign()
    spelled = f"%{ord(campaign_id[0]):02x}{campaign_id[1:]}"
    assert (await served.http.get(f"/v1/campaigns/{spelled}")).status_code == 200


@pytest.mark.parametrize(
    "method, path, status, allow",
    [
        ("GET", "/nothing", 404, None),
        ("GET", "/v1", 404, None),
        ("GET", "/v1/campaigns/", 404, None),
        ("GET", "/livez/", 404, None),
        ("GET", "//v1/campaigns", 404, None),
        ("POST", "/v1/campaigns/a%2Fb/grabs", 404, None),
        ("GET", "/metrics", 404, None),
        ("GET", "/v1/campaigns/x/grabs", 405, {"POST"}),
        ("PUT", "/v1/campaigns/x/grabs", 405, {"POST"}),
        ("DELETE", "/v1/grabs/x-1", 405, {"GET", "HEAD"}),
        ("POST", "/v1/campaigns", 405, {"GET", "HEAD"}),
        ("OPTIONS", "/v1/campaigns", 405, {"GET", "HEAD"}),
        ("POST", "/livez", 405, {"GET", "HEAD"}),
    ],
)
async def test_unknown_addresses_and_methods_are_problems(
    served: Served, method: str, path: str, status: int, allow: set[str] | None
) -> None:
    """404 and 405 as problem+json; 405 names what is allowed; nobody is redirected."""
    response = await served.http.request(method, path)
    assert_problem(response, status, "NOT_FOUND" if status == 404 else "METHOD_NOT_ALLOWED")
    named = response.headers.get("allow")
    assert (set(named.split(", ")) if named else None) == allow


# -- one grab ------------------------------------------------------------------------------------


async def _show(served: Served, name: str, **headers: str) -> httpx2.Response:
    return await served.http.get(f"/v1/grabs/{name}", headers=headers)


async def test_the_owner_sees_his_grab(strict: Served) -> None:
    """By pass and by identity; GRANTED, below the watermark PERSISTED, then RETURNED."""
    campaign_id = await strict.campaign()
    name = (await strict.grab(campaign_id, "anna")).json()["grab_id"]
    bearer = {"authorization": f"Bearer {strict.token(campaign_id, 'anna')}"}

    async def state() -> set[str]:
        answers = [await _show(strict, name, **h) for h in (bearer, identity("anna"))]
        for answer in answers:
            assert answer.status_code == 200
            assert answer.headers["cache-control"] == "no-store"
            assert set(answer.json()) == {"grab_id", "state", "serial", "round"}
            assert (answer.json()["grab_id"], answer.json()["serial"]) == (name, 1)
        return {answer.json()["state"] for answer in answers}

    assert await state() == {"GRANTED"}
    assert await strict.store.settle(campaign_id, 1, 1, "") == 0
    await strict.gateway.catalogue.refresh(campaign_id)
    assert await state() == {"PERSISTED"}
    held = await strict.store.holder(campaign_id, "anna")
    holders = keys.holders(campaign_id)
    await strict.store._redis.hset(holders, "anna", held.replace(",g,", ",r,"))
    assert await state() == {"RETURNED"}


async def test_others_do_not_see_it(strict: Served) -> None:
    """Somebody else's grab, one that is not there and one that cannot be: the same 404."""
    campaign_id, other = await strict.campaign(), await strict.campaign()
    name = (await strict.grab(campaign_id, "anna")).json()["grab_id"]
    of_bert = {"authorization": f"Bearer {strict.token(campaign_id, 'bert')}"}
    of_other = {"authorization": f"Bearer {strict.token(other, 'anna')}"}
    seen = [await _show(strict, name, **h) for h in (of_bert, of_other, identity("bert"))]
    names = [f"{campaign_id}-2", f"{campaign_id}-01", f"{campaign_id}-0", "x", "-1", "a%00-1"]
    names += [f"{campaign_id}-{'9' * 400}", f"{campaign_id}-1e3", f"{campaign_id}-%D9%A1"]
    seen += [await _show(strict, n, **identity("anna")) for n in names]
    bodies = [assert_problem(answer, 404, "GRAB_NOT_FOUND") for answer in seen]
    assert all(body == bodies[0] for body in bodies)


async def test_a_grab_is_shown_to_somebody_only(served: Served) -> None:
    """Without, or with an expired or foreign token: 401."""
    campaign_id = await served.campaign()
    name = (await served.grab(campaign_id)).json()["grab_id"]
    expired = {"authorization": f"Bearer {served.token(campaign_id, 'u1', valid_ms=0)}"}
    for headers in ({}, expired, {"authorization": "Bearer x"}):
        response = await _show(served, name, **headers)
        assert_problem(response, 401, "PASS_INVALID")
        assert response.headers["www-authenticate"] == "Bearer"


async def test_a_grab_on_an_unconfirmed_server_is_not_called_missing(served: Served) -> None:
    """Where the server may know less than was granted, what it does not find is 503, not 404."""
    campaign_id = await served.campaign()
    await served.grab(campaign_id)
    bearer = {"authorization": f"Bearer {served.token(campaign_id, 'u1')}"}
    await served.set(campaign_id, {"run": "another"})
    assert (await _show(served, f"{campaign_id}-1", **bearer)).status_code == 200
    assert_problem(await _show(served, f"{campaign_id}-2", **bearer), 503, "NOT_WARMED")


async def test_a_grab_that_redis_refuses_to_show_is_503(served: Served) -> None:
    """An error of Redis is a problem of ours, said as one, without a traceback."""
    campaign_id = await served.campaign()
    await served.store._redis.set(keys.holders(campaign_id), "not a hash")
    bearer = {"authorization": f"Bearer {served.token(campaign_id, 'u1')}"}
    response = await _show(served, f"{campaign_id}-1", **bearer)
    assert_problem(response, 503, "BACKEND_UNAVAILABLE")
    await served.store._redis.delete(keys.holders(campaign_id))


# -- campaigns -----------------------------------------------------------------------------------


async def test_a_campaign_can_be_looked_at(served: Served) -> None:
    """Exactly the public fields, the server's time, cacheable for a second."""
    campaign_id = await served.campaign(quota=3, per_user=2)
    await served.grab(campaign_id)
    response = await served.http.get(f"/v1/campaigns/{campaign_id}")
    body = response.json()
    assert set(body) == {
        "campaign_id", "name", "status", "per_user", "per_device", "rule", "rounds", "server_time",
    }  # fmt: skip
    assert (body["status"], body["per_user"]) == ("CLAIMABLE", 2)
    assert [(r["round"], r["quota"], r["left"]) for r in body["rounds"]] == [(1, 3, 2)]
    assert abs(from_rfc3339(body["server_time"]) - await served.store.now_ms()) < 1000
    assert response.headers["cache-control"] == "public, max-age=1"
    assert response.headers["content-type"] == "application/json"
    del body["server_time"]
    every = await until("a new list", lambda: _listed_as(served, body))  # it is of this second
    assert abs(from_rfc3339(every["server_time"]) - await served.store.now_ms()) < 500
    head = await served.http.head(f"/v1/campaigns/{campaign_id}")
    assert (head.status_code, head.content) == (200, b"")


async def _listed_as(served: Served, wanted: Any) -> Any:
    every = (await served.http.get("/v1/campaigns")).json()
    return every if wanted in every["campaigns"] else None


@pytest.mark.parametrize("path", ["/v1/campaigns/{}", "/v1/campaigns"])
async def test_the_tag_changes_with_the_state_and_the_second(
    served: Served, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same state in the same second: 304 without a body, in any form of If-None-Match; another
    state, or a time that a cache must not go on telling: 200."""
    campaign_id, after_ms = await served.campaign(quota=3), 0
    second_ms = (served.gateway.redis_clock.now_ms() // 1000 + 1) * 1000  # nobody asked in it
    monkeypatch.setattr(served.gateway.redis_clock, "now_ms", lambda: second_ms + after_ms)
    url = path.format(campaign_id)
    first = await served.http.get(url)
    tag, after_ms = first.headers["etag"], 999
    for given in (tag, tag.removeprefix("W/"), f'"x", {tag}', "*"):
        response = await served.http.get(url, headers={"if-none-match": given})
        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["etag"] == tag
        assert response.headers["cache-control"] == "public, max-age=1"
    now = await served.http.get(url)  # the time is that of the answer, not of the tag
    assert from_rfc3339(now.json()["server_time"]) == second_ms + 999
    after_ms = 1000
    later = await served.http.get(url, headers={"if-none-match": f'{tag}, "y"'})
    assert later.status_code == 200
    server_time = from_rfc3339(later.json()["server_time"])
    assert server_time - from_rfc3339(first.json()["server_time"]) == 1000
    await served.set(campaign_id, {"left": 2}, round_=1)
    after_ms += 1000 if url == path else 0  # the list is made once a second
    answers = [await served.http.get(url, headers={"if-none-match": tag}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert '"left":2' in answers[0].text
    assert answers[0].headers["etag"] == answers[1].headers["etag"] != later.headers["etag"]


async def test_the_status_follows_time_and_stock(served: Served) -> None:
    """NOT_STARTED, SOLD_OUT, ENDED, PAUSED and OFFLINE as the public sees them."""
    soon = await served.campaign(rounds=[(HOUR_MS, 2 * HOUR_MS, 1)])
    over = await served.campaign(rounds=[(-2000, -1000, 1)])
    gone = await served.campaign(quota=1)
    await served.grab(gone)
    paused, closed = await served.campaign(), await served.campaign()
    await served.set(paused, {"status": "PAUSED"})
    await served.set(closed, {"status": "OFFLINE"})
    wanted = dict.fromkeys([soon, over, gone, paused, closed], "")
    for campaign_id in wanted:
        wanted[campaign_id] = (await served.http.get(f"/v1/campaigns/{campaign_id}")).json()[
            "status"
        ]
    assert list(wanted.values()) == ["NOT_STARTED", "ENDED", "SOLD_OUT", "PAUSED", "OFFLINE"]


# -- health and clock ----------------------------------------------------------------------------


async def test_health(served: Served) -> None:
    """Alive and ready, as JSON."""
    for path in ("/livez", "/readyz"):
        response = await served.http.get(path)
        assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_ready_names_what_is_missing() -> None:
    """Started without Redis: alive, but not ready, naming Redis and the campaigns; a grab of a
    campaign that it cannot know yet is to be asked again, not 404: it may have been won before."""
    async with serving("redis://127.0.0.1:1/0", request_deadline_ms=200) as served:
        assert (await served.http.get("/livez")).status_code == 200
        response = await served.http.get("/readyz")
        body = assert_problem(response, 503, "BACKEND_UNAVAILABLE")
        assert body["missing"] == ["redis", "campaigns"]
        assert "redis" in body["detail"]
        assert "retry-after" in response.headers
        refused = await served.grab("any")
        assert_problem(refused, 503, "NOT_WARMED")
        assert "retry-after" in refused.headers
        assert_problem(await served.http.get("/v1/campaigns/any"), 503, "NOT_WARMED")


class WrongClock(SystemClock):
    """A wall clock that is ahead."""

    ahead_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.ahead_ms


async def test_with_a_wrong_clock_everything_is_refused_and_alarmed_of(
    redis_server: Valkey,
) -> None:
    """More than 5 s apart: 503 also for a pass that would look expired; readyz says clock; the
    alarm is raised once and taken back."""
    clock = WrongClock()
    async with serving(redis_server.url, clock) as served:
        campaign_id = await served.campaign()
        expired = {"authorization": f"Bearer {served.token(campaign_id, 'u1', valid_ms=0)}"}
        clock.ahead_ms = SKEW_MS_MAX - 1000
        assert (await served.grab(campaign_id)).status_code == 201
        with capture_logs() as logs:
            clock.ahead_ms = SKEW_MS_MAX + 1000
            answers = [
                await served.grab(campaign_id),
                await served.grab(campaign_id, headers=expired),
                await _show(served, f"{campaign_id}-1", **expired),
                await ask_pass(served, campaign_id, **identity()),
            ]
            ready = (await served.http.get("/readyz")).json()
            await until("the alarm", lambda: len(logs) == 1)
            clock.ahead_ms = 0
            await until("its end", lambda: len(logs) == 2)
        for answer in answers:
            assert "clock" in assert_problem(answer, 503, "BACKEND_UNAVAILABLE")["detail"]
            assert "retry-after" in answer.headers
        assert ready["missing"] == ["clock"]
        assert [(log["event"], log["alarm"]) for log in logs] == [
            ("alarm_begins", "clock-skew"),
            ("alarm_ends", "clock-skew"),
        ]
        assert (await served.grab(campaign_id, "u2")).status_code == 201


# -- the demo ------------------------------------------------------------------------------------


async def test_the_demo_mints_an_identity(served: Served) -> None:
    """A token that gets a pass; forms are checked."""
    campaign_id = await served.campaign()
    response = await served.http.post("/demo/identity", json={"user_id": "anna"})
    assert response.status_code == 201
    assert set(response.json()) == {"token", "user_id", "expires_at"}
    bearer = f"Bearer {response.json()['token']}"
    assert (await ask_pass(served, campaign_id, authorization=bearer)).status_code == 201


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"5", b'"x"', b"{}", b'{"user_id":5}', b'{"user_id":"a b"}', b"\xff"],
    ids=repr,
)
async def test_the_demo_refuses_what_is_no_user(served: Served, content: bytes) -> None:
    """Anything but {"user_id": "…"} of the right form is 400."""
    response = await served.http.post("/demo/identity", content=content)
    assert_problem(response, 400, "INVALID_REQUEST")


async def test_the_demo_takes_no_large_body(served: Served) -> None:
    """Past the bound 413."""
    response = await served.http.post("/demo/identity", content=b" " * (BODY_BYTES_MAX + 1))
    assert_problem(response, 413, "REQUEST_TOO_LARGE")


async def test_without_demo_its_route_is_not_there(strict: Served) -> None:
    """404 like any address that does not exist."""
    response = await strict.http.post("/demo/identity", json={"user_id": "anna"})
    body = assert_problem(response, 404, "NOT_FOUND")
    assert body == (await strict.http.post("/nothing")).json()


# -- cross-origin --------------------------------------------------------------------------------


async def test_a_preflight_is_answered_for_the_listed_origin(strict: Served) -> None:
    """Methods and headers of the contract, kept for two hours."""
    response = await strict.http.options(
        "/v1/campaigns/x/grabs",
        headers={
            "origin": ORIGIN,
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,idempotency-key,x-device-id",
        },
    )
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert response.headers["access-control-max-age"] == "7200"
    assert "POST" in response.headers["access-control-allow-methods"]
    assert "access-control-allow-credentials" not in response.headers


@pytest.mark.parametrize(
    "origin",
    ["https://shop.example.evil", "http://shop.example", "https://shop.example:444", "null"],
)
async def test_other_origins_get_nothing(strict: Served, origin: str) -> None:
    """The list is exact: scheme, host and port."""
    asked = {"origin": origin, "access-control-request-method": "POST"}
    preflight = await strict.http.options("/v1/campaigns/x/grabs", headers=asked)
    plain = await strict.http.get("/v1/campaigns", headers={"origin": origin})
    for response in (preflight, plain):
        assert "access-control-allow-origin" not in response.headers
    assert preflight.status_code == 400


async def test_answers_across_origins_show_retry_after_and_location(strict: Served) -> None:
    """Granted and refused answers carry the origin and expose the headers that a page needs."""
    campaign_id = await strict.campaign(quota=1)
    headers = {"origin": ORIGIN}
    answers = [await strict.grab(campaign_id, f"u{n}", headers=headers) for n in range(2)]
    assert [a.status_code for a in answers] == [201, 409]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        exposed = answer.headers["access-control-expose-headers"].split(", ")
        assert set(exposed) == {"Retry-After", "Location", "RateLimit", "RateLimit-Policy"}
        assert "Origin" in answer.headers["vary"]


async def test_without_origins_there_is_no_cross_origin_use(served: Served) -> None:
    """Nothing is allowed that was not listed."""
    response = await served.http.get("/v1/campaigns", headers={"origin": ORIGIN})
    assert "access-control-allow-origin" not in response.headers


# -- inside --------------------------------------------------------------------------------------


async def test_metrics_count_by_outcome_and_never_by_input(served: Served) -> None:
    """Each answer is one count under its outcome; what clients send becomes no label."""
    campaign_id = await served.campaign(quota=1)
    for user in ("u1", "u2"):
        await served.grab(campaign_id, user)
    await served.grab("made-up-campaign")
    seen = served.metrics.snapshot()["values"]
    values = {(name, tuple(labels)): value for name, labels, value in seen}
    assert len(values) == len(seen)
    assert values[("flashgrab_grabs", (campaign_id, "GRANTED"))] == 1
    assert values[("flashgrab_grabs", (campaign_id, "SOLD_OUT"))] == 1
    assert values[("flashgrab_grabs", ("unknown", "CAMPAIGN_NOT_FOUND"))] >= 1
    assert values[("flashgrab_refused_locally", ("CAMPAIGN_NOT_FOUND",))] >= 1
    assert served.metrics.live["flashgrab_inflight"]() == 0
    assert not any("made-up-campaign" in labels for _, labels in values)


async def test_requests_in_flight_are_counted(served: Served) -> None:
    """flashgrab_inflight is the number of grabs that wait for their answer."""
    campaign_id = await served.campaign()
    batcher = served.gateway.batcher(served.known(campaign_id))
    connected = served.gateway.wire.connected
    connected.clear()  # so that batches wait
    waiting = [asyncio.create_task(served.grab(campaign_id, f"u{n}")) for n in range(3)]
    try:
        await until("they wait", lambda: batcher.requests == 3)
        assert served.metrics.live["flashgrab_inflight"]() == 3
    finally:
        connected.set()
    assert {(await w).status_code for w in waiting} == {201}
    assert served.metrics.live["flashgrab_inflight"]() == 0


async def test_no_route_blocks_the_loop(served: Served) -> None:
    """While every kind of request is answered, no code of ours makes a blocking call."""
    campaign_id = await served.campaign()
    with blockbuster_ctx(scanned_modules=["gateway", "flashgrab"]):
        grab = await served.grab(campaign_id, key="k")
        bearer = {"authorization": f"Bearer {served.token(campaign_id, 'u1')}"}
        minted = await served.http.post("/demo/identity", json={"user_id": "anna"})
        token = f"Bearer {minted.json()['token']}"
        answers = [
            grab,
            minted,
            await ask_pass(served, campaign_id, authorization=token),
            await _show(served, f"{campaign_id}-1", **bearer),
            await served.http.get("/v1/campaigns"),
            await served.http.get(f"/v1/campaigns/{campaign_id}"),
            await served.http.get("/openapi.json"),
            await served.http.get("/readyz"),
        ]
        await served.gateway.catalogue.refresh(campaign_id)
    assert [a.status_code for a in answers] == [201, 201, 201, 200, 200, 200, 200, 200]
