"""What the console keeps: it outlives the centre, has an end, and waits for PostgreSQL.

Here no other centre runs: each would write the same seconds, as it sees them.
"""

import pytest

from centre.console.books import INVARIANTS
from centre.console.keeper import WAIT_MS, Keeper
from centre.console.shapes import SECOND_MS, Second
from flashgrab.ledger import console
from flashgrab.ledger.console import KEEP_MS, KEEP_OPENINGS_MS, Kept, Note
from flashgrab.recent import Row
from tests.centre.console.part import Part, counts, now_ms
from tests.centre.serving import Servers, Sides, both_sides, emptied, ready, serving, until

pytestmark = pytest.mark.anyio


async def test_staff_actions_and_deaths_are_notes(migrated: Servers) -> None:
    """A pause is told with who did it, and a part that is gone and comes back with its process."""
    part = Part("worker").start()
    async with serving(migrated, metrics_urls=(part.url,)) as served:
        await ready(served)
        campaign_id = await served.created(publish=True)
        found = served.centre.console
        await until(lambda: any(one.pid for one in found.parts()))
        one = next(iter(found.asker.asked.values()))
        before, one.url = one.url, "http://127.0.0.1:9/recent"
        await until(lambda: bool(found.parts()[0].down))
        one.url = before
        await until(lambda: not found.parts()[0].down)
        await served.post(f"/v1/campaigns/{campaign_id}/pause")
        found.selected[campaign_id] += 1

        def told() -> set[str]:
            return {note["kind"] for note in found.notes(campaign_id)}

        await until(lambda: {"died", "started", "pause", "opened"} <= told())
        words = {note["kind"]: note["words"] for note in found.notes(campaign_id)}
        assert words["pause"] == "by root"
        assert words["died"].startswith("worker ")


async def test_a_restart_of_the_centre_keeps_history(migrated: Servers) -> None:
    """What one centre saw the next one tells, in steps of 100 ms around the opening."""
    await emptied(migrated)
    part = Part().start()
    began_ms = now_ms()
    async with serving(migrated, metrics_urls=(part.url,)) as served:
        await ready(served)
        campaign_id = await served.created(publish=True)
        found = served.centre.console
        await until(lambda: campaign_id in found.books.now)
        part.counted(campaign_id, "GRANTED", 3, left={campaign_id: {"1": 7}})
        await until(lambda: any(one.grabs and one.books for one in found.seconds))
    part.made.clear()  # and what waited in the keeper was written as the centre stopped
    async with serving(migrated) as served:
        await ready(served)
        query = f"campaign={campaign_id}&from={began_ms - 5000}&to={now_ms() + 5000}"
        told = (await served.http.get(f"/ops/history?{query}")).json()
        assert told["step"] == 100
        assert counts(told["rows"]) == {"GRANTED": 3}
        assert {"left": {"1": 7}}.items() <= next(r for r in told["rows"] if "grabs" in r).items()
        assert any(row.get("book", {}).get("quota") == 10 for row in told["rows"])
        assert [note["kind"] for note in told["notes"] if note["kind"] == "publish"]
        # a longer time has longer steps, and the same counts
        query = f"campaign={campaign_id}&from={now_ms() - KEEP_MS + 60_000}&to={now_ms() + 5000}"
        told = (await served.http.get(f"/ops/history?{query}")).json()
        assert (told["step"], counts(told["rows"])) == (60_000, {"GRANTED": 3})
        chosen = (await served.http.get("/ops/campaigns")).json()["campaigns"]
        assert [one["id"] for one in chosen] == [campaign_id]


async def _has_grabs(sides: Sides) -> bool:
    rows = await sides.rows("SELECT second FROM console_seconds WHERE fine IS NOT NULL")
    return any(b"GRANTED" in row["second"] and b'"quota":10' in row["second"] for row in rows)


async def test_what_is_kept_has_an_end(servers: Servers) -> None:
    """Plain seconds for 24 h, those around openings for 400 days; twice the same stays once."""
    now = now_ms()

    def second(at_ms: int, fine: bytes | None = None) -> Kept:
        return Kept(at_ms, b"{}", fine)

    old, older = now - KEEP_MS - 1, now - KEEP_OPENINGS_MS - 1
    rows = [second(now), second(old), second(old - 1, b"[]"), second(older, b"[]")]
    notes = [Note(now, "", "died", "worker 1"), Note(older, "c", "opened", "round 1")]
    async with both_sides(servers) as sides:
        await console.keep(sides.pool, rows, notes)
        await console.keep(sides.pool, rows, notes)
        assert len(await sides.rows("SELECT at_ms FROM console_seconds")) == 4
        await console.sweep(sides.pool, now)
        kept = await sides.rows("SELECT at_ms FROM console_seconds ORDER BY at_ms")
        assert [row["at_ms"] for row in kept] == [old - 1, now]
        assert len(await sides.rows("SELECT at_ms FROM console_notes")) == 1


async def test_a_sale_that_opens_now_has_its_steps(servers: Servers) -> None:
    """The round is in the ledger after the second in which it opened: a second waits that long,
    and what waits at the end of the centre is written then."""
    async with both_sides(servers) as sides:
        keeper, clock = Keeper(sides.pool, sides.clock), sides.clock
        opened = clock.at_ms

        def seen(at_ms: int) -> None:
            row = Row(at_ms, {"c": {"GRANTED": 1}})
            keeper.second(Second(at_ms, row.grabs), [row])

        seen(opened)
        clock.at_ms += 1500
        await keeper.write()
        assert await sides.rows("SELECT 1 FROM console_seconds") == []
        campaign_id = await sides.published()
        await sides.rows(f"UPDATE rounds SET opens_at = {opened} RETURNING 1")
        clock.at_ms = opened + SECOND_MS + WAIT_MS
        seen(opened + 4000)
        await keeper.write()
        rows = await sides.rows("SELECT at_ms, fine IS NOT NULL AS fine FROM console_seconds")
        assert rows == [{"at_ms": opened, "fine": True}]
        assert keeper.waiting == 1
        await keeper.stop()
        assert keeper.waiting == 0
        # steps are read where they are wanted, and only there
        for fine_from, fine in ((0, [True, True]), (opened + 1, [False, True])):
            pages = console.seconds(sides.pool, opened, opened + 9000, fine_from)
            assert [bool(row.fine) async for page in pages for row in page] == fine
        assert await console.openings(sides.pool, opened, opened + 1) == [opened]
        assert [r.campaign_id for r in await console.rounds(sides.pool, [campaign_id])]


async def test_any_sale_is_found_however_many_there_are(servers: Servers) -> None:
    """Many campaigns to come do not hide the one that is open, nor one of long ago."""
    now, day = now_ms(), 86_400_000
    async with both_sides(servers) as sides:
        await sides.rows(
            "WITH made AS (INSERT INTO campaigns (campaign_id, definition, status, version,"
            " per_user, per_device, operation, created_ms)"
            " SELECT CASE n WHEN 0 THEN 'open' WHEN 1 THEN 'old' ELSE 'soon' || n END,"
            " json_build_object('name', CASE n WHEN 1 THEN 'Winter 30% off' ELSE 'Test' END),"
            " 'PUBLISHED', 1, 1, 0, 'op', 0 FROM generate_series(0, 600) n RETURNING campaign_id)"
            " INSERT INTO rounds (campaign_id, number, opens_at, closes_at, quota)"
            f" SELECT campaign_id, 1, {now} + CASE campaign_id WHEN 'open' THEN -90 * {day}::bigint"
            f" WHEN 'old' THEN -300 * {day}::bigint ELSE {day} END,"
            f" {now} + CASE campaign_id WHEN 'old' THEN -299 * {day}::bigint ELSE 2 * {day} END,"
            " 5 FROM made"
        )
        nearest = await console.nearest(sides.pool, now, 20)
        assert nearest[0] == "open"
        assert "old" not in nearest
        assert (await console.nearest(sides.pool, now, 20, alive=True))[0] == "open"
        for find in ("old", "winter", "30%", "WINTER"):
            assert await console.nearest(sides.pool, now, 20, find=find) == ["old"], find
        assert await console.nearest(sides.pool, now, 20, find="old", alive=True) == []
    await emptied(servers)  # a centre would bring all of them to Redis


async def test_without_postgres_the_console_goes_on(migrated: Servers) -> None:
    """Pages are told what the parts say, and that the ledger is away; what was seen meanwhile is
    kept once it is back. The lights are the worker's: while it cannot audit, nobody knows."""
    part, worker = Part().start(), Part("worker").start()
    async with serving(migrated, metrics_urls=(part.url, worker.url)) as served:
        await ready(served)
        campaign_id = await served.created(publish=True)
        found = served.centre.console
        found.selected[campaign_id] += 1

        def lights() -> str:
            book = found.books.now.get(campaign_id)
            return book.lights if book else ""

        for name in INVARIANTS:
            worker.metrics.set("flashgrab_invariant_ok", (campaign_id, name), 1)
        await until(lambda: lights() == "111111")
        pool = found.books.pool
        url, pool._url = pool._url, "postgresql://127.0.0.1:9/none"
        await pool.close()
        await until(lambda: not found.books.ledger)
        for name in INVARIANTS:
            worker.metrics.drop("flashgrab_invariant_ok", (campaign_id, name))
        await until(lambda: lights() == "??????")
        part.counted(campaign_id, "GRANTED", 2)
        await until(lambda: any(row.grabs for row in found.joined.since(0).rows))
        await until(lambda: found.keeper.waiting > 1)
        book = found.books.now[campaign_id]
        assert (book.left, book.persisted) == (10, None)
        pool._url = url
        await pool.close()
        await until(lambda: found.books.ledger)
        async with both_sides(migrated) as sides:
            await until(lambda: _has_grabs(sides))
