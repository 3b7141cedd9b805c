"""The console's data: what parts say reaches pages exactly, is kept, and outlives the centre."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx2
import pytest
from structlog.testing import capture_logs

from centre.console import stream
from centre.console.books import NOTES_MS
from centre.console.console import READER_STREAMS_MAX, STREAMS_MAX
from centre.console.view_link import ViewLinks
from flashgrab.clock import to_rfc3339
from flashgrab.ledger import console
from flashgrab.ledger.console import KEEP_MS, Note
from flashgrab.recent import Row
from flashgrab.staff import Role
from tests.centre.console.part import Part, counts, now_ms
from tests.centre.serving import (
    Served,
    Servers,
    client,
    emptied,
    ready,
    serving,
    until,
)
from tests.centre.test_ops import link
from tests.centre.test_staff import holding, token

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def part() -> Part:
    """A gateway of this module; tests take campaigns of their own."""
    return Part().start()


@pytest.fixture(scope="module")
async def served(migrated: Servers, part: Part, anyio_backend: str) -> AsyncIterator[Served]:
    await emptied(migrated)
    async with serving(migrated, metrics_urls=(part.url,)) as centre:
        await ready(centre)
        yield centre


@asynccontextmanager
async def ticks(
    http: httpx2.AsyncClient, campaign_id: str, **headers: str
) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """The events of a stream."""
    path = f"/ops/stream?campaign={campaign_id}"

    async with http.stream("GET", path, headers=headers) as answer:
        assert answer.status_code == 200, await answer.aread()

        async def events() -> AsyncIterator[dict[str, Any]]:
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    yield json.loads(line[6:])

        yield events()


async def test_a_page_is_told_every_grab_once(served: Served, part: Part) -> None:
    """The first event has the last two minutes, later ones what is new, a page that comes back
    what it missed; nobody is told a row twice."""
    campaign_id = await served.created(publish=True)
    part.counted(campaign_id, "GRANTED", 4, left={campaign_id: {"1": 6}})
    rows: list[dict[str, Any]] = []
    is_first = True
    async with asyncio.timeout(20):
        async with ticks(served.http, campaign_id) as events:
            async for told in events:
                assert told["whole"] is is_first
                is_first = False
                rows += told["rows"]
                if counts(rows) == {"GRANTED": 4} and told["book"]:
                    break
        assert told["campaign"]["id"] == campaign_id
        assert (told["book"]["quota"], told["book"]["left"]) == (10, 10)
        assert [one["part"] for one in told["parts"]] == ["gateway"]
        assert told["ledger"]
        part.counted(campaign_id, "SOLD_OUT", 7, left={campaign_id: {"1": 0}})
        async with ticks(served.http, campaign_id, **{"last-event-id": str(told["until"])}) as more:
            async for told in more:
                assert not told["whole"]
                rows += told["rows"]
                kinds = [note["kind"] for note in told["notes"]]
                if counts(rows) == {"GRANTED": 4, "SOLD_OUT": 7} and "sold out" in kinds:
                    break
    assert len({row["t"] for row in rows}) == len(rows)
    assert "opened" in kinds
    assert "publish" in kinds


async def test_who_may_look(served: Served) -> None:
    """Every role by token or session, a read-only link, and nobody else; a link opens no call."""
    async with client(served.base_url) as http:
        for path in (
            "/ops/campaigns",
            "/ops/history?campaign=c&from=1&to=2",
            "/ops/stream?campaign=",
        ):
            assert (await http.get(path)).status_code == 401
        made = (await served.post("/v1/view-links", {"valid_s": 3600})).json()
        view = made["path"].partition("?")[2]
        assert (await http.get(f"/ops/campaigns?{view}")).status_code == 200
        assert (await http.get(f"/v1/campaigns?{view}")).status_code == 401
        async with asyncio.timeout(10), ticks(http, f"&{view}") as events:
            assert (await anext(events))["whole"]
        wrong = view[:-1] + ("1" if view[-1] != "1" else "2")
        assert (await http.get(f"/ops/campaigns?{wrong}")).status_code == 401
        await http.post("/ops/session", json={"link": await link(served)})
        assert (await http.get("/ops/campaigns")).status_code == 200


async def test_a_view_link_ends_with_its_token_and_its_time(served: Served) -> None:
    """Revoking the token that made it ends it; so does its own end, and another ADMIN_TOKEN."""
    made = await token(served, Role.VIEWER, "vic")
    async with holding(served, made["token"]) as http:
        answer = await http.post(
            "/v1/view-links", json={"valid_s": 60}, headers={"idempotency-key": "view-1"}
        )
    assert answer.status_code == 201, answer.text
    view = answer.json()["path"].partition("view=")[2]
    links, now = served.centre.view_links, int(time.time() * 1000)
    assert await links.is_good(view, now)
    assert not await links.is_good(view, now + 61_000)
    assert not await ViewLinks(served.centre.pool, "another").is_good(view, now)
    await served.post(f"/v1/tokens/{made['id']}/revoke")
    assert not await links.is_good(view, now)


async def test_streams_are_bounded(served: Served) -> None:
    """Past the bound 503 with Retry-After, and a page that goes makes room; one reader, a
    read-only link too, has not all of the places."""
    found = served.centre.console
    made = (await served.post("/v1/view-links", {"valid_s": 3600})).json()
    view = made["path"].partition("?view=")[2]
    for reader, count in (("other", STREAMS_MAX), ("root", READER_STREAMS_MAX)):
        found.readers[reader] += count
        async with asyncio.timeout(10):  # one that is not refused has no end
            refused = await served.http.get("/ops/stream?campaign=")
        assert (refused.status_code, refused.headers["retry-after"].isdigit()) == (503, True)
        del found.readers[reader]
    async with asyncio.timeout(10), ticks(served.http, "") as events:
        await anext(events)
        assert found.readers == {"root": 1}
        assert found.selected.total() == 1
        found.readers[view] += READER_STREAMS_MAX
        async with client(served.base_url) as http:
            assert (await http.get(f"/ops/stream?campaign=&view={view}")).status_code == 503
        del found.readers[view]
    await until(lambda: not found.readers and not found.selected)


async def test_a_fault_in_a_stream_is_logged(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, however often its page comes back; the reader's place is free again."""

    def broken(*_: object) -> None:
        raise ValueError("a fault of ours")

    monkeypatch.setattr(stream, "tick", broken)
    found = served.centre.console
    with capture_logs() as logs:
        for _ in range(3):
            with pytest.raises(httpx2.RemoteProtocolError):
                await served.http.get("/ops/stream?campaign=")
    assert [line["event"] for line in logs] == ["console_stream_failed"]
    assert not found.readers


async def test_rounds_are_told_apart(served: Served) -> None:
    """Two rounds: the book has what is left of each, and the sum."""
    hour = 3_600_000
    rounds = [
        {"opens_at": "now", "closes_at": "+1h", "quota": 5},
        {"opens_at": to_rfc3339(now_ms() + 2 * hour), "closes_at": "+1h", "quota": 7},
    ]
    campaign_id = await served.created(publish=True, rounds=rounds)
    async with asyncio.timeout(20), ticks(served.http, campaign_id) as events:
        async for told in events:
            if told["book"]:
                break
    assert told["book"]["lefts"] == {"1": 5, "2": 7}
    assert (told["book"]["left"], told["book"]["quota"]) == (12, 12)


async def test_a_sell_out_is_known_for_good(served: Served) -> None:
    """Notes are told for two minutes; when a round was sold out stays with the round."""
    campaign_id = await served.created(publish=True)
    found = served.centre.console
    found.selected[campaign_id] += 1
    await until(lambda: found.campaign(campaign_id) is not None)
    (opened,) = [r.opens_at for r in found.books.rounds if r.campaign_id == campaign_id]
    found._own_notes.append(Note(now_ms() - NOTES_MS - 1, campaign_id, "sold out", "round 1"))
    assert "sold out" not in [one["kind"] for one in found.notes(campaign_id)]
    note = Note(opened + 1800, campaign_id, "sold out", "round 1")
    await console.keep(found.books.pool, [], [note])

    def told() -> int | None:
        campaign = found.campaign(campaign_id)
        assert campaign is not None
        at_ms: int | None = campaign["rounds"][0]["sold_out_at"]
        return at_ms

    await until(lambda: told() == opened + 1800)
    shown = (await served.http.get(f"/ops/campaigns?find={campaign_id}")).json()["campaigns"]
    assert [one["rounds"][0]["sold_out_at"] for one in shown] == [opened + 1800]
    # what has been seen here just now is told before the ledger has it
    found._note_sold_out([Row(opened, left={campaign_id: {"1": 3}})])
    found._note_sold_out([Row(opened + 9000, left={campaign_id: {"1": 0}})])
    assert told() == opened + 9100
    del found.selected[campaign_id]


async def test_made_up_campaigns_push_nobody_out(served: Served) -> None:
    """Ids that pages make up are not looked at; live campaigns are, and a real one besides."""
    alive = await served.created(publish=True)
    closed = await served.created(publish=True)
    await served.post(f"/v1/campaigns/{closed}/close")
    found = served.centre.console
    for one in [*(f"made-up-{n}" for n in range(30)), closed]:
        found.selected[one] += 1
    await until(lambda: closed in found.books.now)
    assert alive in found.books.now
    assert not [one for one in found.books.now if one.startswith("made-up")]
    found.selected.clear()


async def test_the_runbook_is_a_page(served: Served) -> None:
    """Every alarm that is shown links to a heading of it."""
    page = await served.http.get("/ops/runbook")
    for anchor in ("redis-gone", "books-wrong", "i1"):
        assert f'id="{anchor}"' in page.text
    script = await served.http.get("/ops/static/console.js")
    tag = {"if-none-match": script.headers["etag"]}
    assert (await served.http.get("/ops/static/console.js", headers=tag)).status_code == 304
    assert (await served.http.get("/ops/static/../shapes.py")).status_code == 404


async def test_queries_are_checked(served: Served) -> None:
    """Campaign, from and to have their forms and their bounds."""
    assert (await served.http.get(f"/ops/campaigns?find={'x' * 101}")).status_code == 400
    for query in ("", "campaign=c", "campaign=c&from=x&to=2", "campaign=c&from=2&to=1",
                  f"campaign=c&from=0&to={KEEP_MS + 1}", "campaign=C!&from=1&to=2"):  # fmt: skip
        assert (await served.http.get(f"/ops/history?{query}")).status_code == 400, query
    assert (await served.http.get("/ops/stream")).status_code == 400


async def test_the_tables_are_there(migrated: Servers) -> None:
    """The sweep of plain seconds has its index."""
    connection = await asyncpg.connect(migrated.postgres_url)
    try:
        found = await connection.fetch(
            "SELECT indexname FROM pg_indexes WHERE tablename = 'console_seconds'"
        )
    finally:
        await connection.close()
    assert {row["indexname"] for row in found} == {"console_seconds_pkey", "console_seconds_plain"}
