"""Batches: what goes into one script call, and that every request is answered, in time, rightly."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest
from structlog.testing import capture_logs

from flashgrab.errors import StoreRefused, StoreUnavailable
from flashgrab.outcomes import Outcome, Verdict
from gateway.batch import CALLS_MAX, LOOK_BACK, SLOW_S
from gateway.decisions import Decision, read_grants
from tests.gateway.crowd import Sent, crowd, request_bytes
from tests.gateway.serving import HOUR_MS, Served, serving, until
from tests.gateway.wires import HeldWire, SlowWire, ToldWire
from tests.lua.server import Valkey, valkey
from tests.services.proxy import Proxy, proxied

pytestmark = pytest.mark.anyio

DEADLINE_MS = 400
SLACK_MS = 250  # the machine may be busy; without a deadline these waits last seconds


@pytest.fixture(scope="module")
def own_server() -> Iterator[Valkey]:
    """A server that tests stop and kill, durable as the real one."""
    with valkey("--appendonly", "yes", "--appendfsync", "always", tcp=True) as running:
        yield running


@pytest.fixture
async def brief(own_server: Valkey) -> AsyncIterator[Served]:
    """A gateway with a short deadline on that server."""
    async with serving(own_server.url, request_deadline_ms=DEADLINE_MS) as gateway:
        yield gateway


def outcomes(decisions: list[Decision]) -> Counter[Outcome]:
    return Counter(decision.outcome for decision in decisions)


async def turns(count: int = 5) -> None:
    """Let the loop turn, without time passing."""
    for _ in range(count):
        await asyncio.sleep(0)


# -- what goes into a call ---------------------------------------------------------------------


async def test_one_turn_is_one_call(served: Served) -> None:
    """All grabs of one turn of the loop go to Redis as one call, and come back in their order."""
    campaign_id = await served.campaign(quota=100)
    wire = HeldWire(served.gateway.wire, released=True)
    batcher = served.through(wire, campaign_id)
    decisions = await asyncio.gather(*(batcher.submit(f"u{n}", "", f"k{n}") for n in range(50)))
    assert wire.calls == [50]
    assert [d.grants[0].serial for d in decisions] == list(range(1, 51))


async def test_who_has_waited_for_his_limits_is_measured_from_there(served: Served) -> None:
    """His time to the answer began before he came into the batch; the moments of a batch stay in
    order, since the oldest one's deadline is all of theirs."""
    campaign_id = await served.campaign(quota=100)
    wire = HeldWire(served.gateway.wire)
    batcher = served.through(wire, campaign_id)
    seconds, now = served.metrics.histograms["flashgrab_grab_seconds", ()], time.monotonic()
    before, total = sum(seconds.counts), seconds.total
    answers = [batcher.submit("a", "", "k", now - 0.3)]
    answers.append(batcher.submit("b", "", "k"))
    answers.append(batcher.submit("c", "", "k", now - 0.3))  # later than b, who came meanwhile
    since = list(batcher._waiting.since)
    assert since[0] == now - 0.3
    assert now <= since[1] == since[2]
    wire.release.set()
    await asyncio.gather(*answers)
    assert seconds.total >= total + 0.3
    assert sum(seconds.counts) == before + 3


async def test_the_next_batch_fills_while_calls_are_in_flight(served: Served) -> None:
    """At most CALLS_MAX calls of a campaign are in flight; what comes meanwhile is one more."""
    campaign_id = await served.campaign(quota=100)
    wire = HeldWire(served.gateway.wire)
    batcher = served.through(wire, campaign_id)
    answers = []
    for turn in range(CALLS_MAX + 4):
        answers += [batcher.submit(f"u{turn}-{n}", "", "k") for n in range(3)]
        await turns()
    assert wire.calls == [3] * CALLS_MAX
    assert batcher.requests == len(answers)
    wire.release.set()
    assert outcomes(await asyncio.gather(*answers)) == {Outcome.GRANTED: len(answers)}
    assert wire.calls == [3] * CALLS_MAX + [12]
    assert batcher.requests == 0


async def test_a_slow_disk_gets_one_wide_call_at_a_time(served: Served) -> None:
    """Those who come back after a call share the next one, with those who waited meanwhile."""
    campaign_id = await served.campaign(quota=1000)
    wire = SlowWire(served.gateway.wire, slow_ms=int(SLOW_S * 1000) + 2)
    batcher = served.through(wire, campaign_id)

    async def client(name: int) -> None:
        for turn in range(20):
            decision = await batcher.submit(f"u{name}-{turn}", "", "k")
            assert decision.outcome is Outcome.GRANTED

    first = [asyncio.create_task(client(n)) for n in range(5)]
    await turns()
    await asyncio.gather(*first, *(client(n) for n in range(5, 25)))
    assert set(wire.at_once[LOOK_BACK:]) == {1}
    later = wire.calls[LOOK_BACK + 2 :]
    assert sum(later) / len(later) > 20


async def test_a_call_carries_at_most_batch_max(served: Served) -> None:
    """2,500 grabs of one turn with batch_max 1000 become calls of 1000, 1000 and 500."""
    campaign_id = await served.campaign(quota=2500)
    wire = HeldWire(served.gateway.wire, released=True)
    batcher = served.through(wire, campaign_id, batch_max=1000)
    decisions = await asyncio.gather(*(batcher.submit(f"u{n}", "", "k") for n in range(2500)))
    assert wire.calls == [1000, 1000, 500]
    assert outcomes(decisions) == {Outcome.GRANTED: 2500}


async def test_past_queue_max_is_busy_at_once(served: Served) -> None:
    """What does not fit the queue is answered BUSY without waiting; the rest is served."""
    campaign_id = await served.campaign(quota=100)
    wire = HeldWire(served.gateway.wire)
    batcher = served.through(wire, campaign_id, queue_max=10)
    answers = [batcher.submit(f"u{n}", "", "k") for n in range(15)]
    assert [a.done() for a in answers] == [False] * 10 + [True] * 5
    wire.release.set()
    done = await asyncio.gather(*answers)
    assert outcomes(done) == {Outcome.GRANTED: 10, Outcome.BUSY: 5}


async def test_the_largest_batch_is_granted_whole(served: Served) -> None:
    """1,000 requests with 64-byte ids in one call: all granted, all in the outbox."""
    campaign_id = await served.campaign(quota=1000, per_device=1)
    wire = HeldWire(served.gateway.wire, released=True)
    batcher = served.through(wire, campaign_id)
    names = [f"{n:04d}".ljust(64, "x") for n in range(1000)]
    decisions = await asyncio.gather(*(batcher.submit(n, n, n) for n in names))
    assert wire.calls == [1000]
    assert outcomes(decisions) == {Outcome.GRANTED: 1000}
    assert [(u, s, r) for u, s, r, _ in await served.facts(campaign_id)] == [
        (name, serial, name) for serial, name in enumerate(names, 1)
    ]


# -- deadlines -----------------------------------------------------------------------------------


async def _timed_grab(served: Served, campaign_id: str, n: int) -> tuple[httpx2.Response, float]:
    started = time.perf_counter()
    response = await served.grab(campaign_id, f"u{n}", key="k")
    return response, (time.perf_counter() - started) * 1000


async def _staggered(
    served: Served, campaign_id: str
) -> tuple[list[tuple[httpx2.Response, float]], float]:
    """Grabs that arrive one by one over more than a deadline, each with its milliseconds; and the
    longest that this loop, client and gateway in one, was kept from running by the machine."""
    running, pace_ms, stalled_ms = [], DEADLINE_MS / 20, 0.0
    for n in range(40):
        if n < 30:
            running.append(asyncio.create_task(_timed_grab(served, campaign_id, n)))
        started = time.perf_counter()
        await asyncio.sleep(pace_ms / 1000)  # the pace of arrival, not a wait
        stalled_ms = max(stalled_ms, (time.perf_counter() - started) * 1000 - pace_ms)
    return await asyncio.gather(*running), stalled_ms


def _assert_in_time(timed: tuple[list[tuple[httpx2.Response, float]], float]) -> None:
    answers, stalled_ms = timed
    for response, took_ms in answers:
        assert took_ms <= DEADLINE_MS + SLACK_MS + stalled_ms
        assert (response.status_code, response.json()["code"]) == (503, "BACKEND_UNAVAILABLE")
        assert response.headers["retry-after"] in ("1", "2")


async def test_frozen_redis_is_answered_in_time(brief: Served, own_server: Valkey) -> None:
    """While Redis stands still every grab gets 503 with Retry-After inside its deadline."""
    campaign_id = await brief.campaign(quota=100)
    own_server.freeze()
    try:
        timed = await _staggered(brief, campaign_id)
        ready = await brief.http.get("/readyz")
    finally:
        own_server.thaw()
    _assert_in_time(timed)
    assert (ready.status_code, ready.json()["missing"]) == (503, ["redis"])
    await until("Redis is back", brief.gateway.wire.connected.is_set)
    again = [await brief.grab(campaign_id, f"u{n}", key="k") for n in range(30)]
    assert {a.status_code for a in again} <= {200, 201}
    facts = await brief.facts(campaign_id)
    assert sorted(serial for _, serial, _, _ in facts) == list(range(1, 31))
    assert {user for user, *_ in facts} == {f"u{n}" for n in range(30)}


async def test_a_silent_peer_is_answered_in_time(brief: Served) -> None:
    """Where something takes the connection and never says a word, the deadline holds too."""
    campaign_id = await brief.campaign()
    silent = HeldWire(brief.gateway.wire)
    silent.connected.clear()
    batcher = brief.through(silent, campaign_id, deadline_ms=DEADLINE_MS)
    _assert_in_time(await _staggered(brief, campaign_id))
    assert silent.calls == []
    assert batcher.requests == 0


async def test_a_late_request_does_not_cut_a_call_short(served: Served) -> None:
    """Requests that waited until their time was nearly over are answered unsent; a call with
    their last millisecond would take down the connection of all campaigns."""
    campaign_id = await served.campaign(quota=10)
    wire = HeldWire(served.gateway.wire)
    batcher = served.through(wire, campaign_id, batch_max=1, deadline_ms=DEADLINE_MS)
    ahead = [batcher.submit(f"a{n}", "", "k") for n in range(CALLS_MAX)]
    await turns()
    late = [batcher.submit(f"b{n}", "", "k") for n in range(3)]
    ends = time.monotonic() + DEADLINE_MS / 1000 * 0.95
    await until("their time is nearly over", lambda: time.monotonic() > ends)
    wire.release.set()
    assert outcomes(await asyncio.gather(*ahead)) == {Outcome.GRANTED: CALLS_MAX}
    assert outcomes(await asyncio.gather(*late)) == {Outcome.BACKEND_UNAVAILABLE: 3}
    assert wire.calls == [1] * CALLS_MAX
    assert outcomes([await batcher.submit("c", "", "k")]) == {Outcome.GRANTED: 1}
    assert served.metrics.values[("flashgrab_redis_connects", ())] == 1


async def test_a_connection_that_comes_late_is_not_cut_short(served: Served) -> None:
    """Where Redis is back with only the last milliseconds left, nothing is sent any more."""
    campaign_id = await served.campaign()
    wire = HeldWire(served.gateway.wire, released=True)
    wire.connected.clear()
    batcher = served.through(wire, campaign_id, deadline_ms=DEADLINE_MS)
    answer = batcher.submit("u", "", "k")
    ends = time.monotonic() + DEADLINE_MS / 1000 * 0.95
    await until("its time is nearly over", lambda: time.monotonic() > ends)
    wire.connected.set()
    assert (await answer).outcome is Outcome.BACKEND_UNAVAILABLE
    assert wire.calls == []


# -- replies that are lost -------------------------------------------------------------------------


@pytest.fixture
async def behind_proxy(redis_server: Valkey) -> AsyncIterator[tuple[Served, Proxy]]:
    """A gateway whose way to Redis can be broken."""
    async with (
        proxied(redis_server.port) as proxy,
        serving(proxy.url, request_deadline_ms=1000) as gateway,
    ):
        yield gateway, proxy


@pytest.mark.parametrize("how", ["swallow", "reset"])
async def test_a_lost_reply_is_asked_again_with_the_same_ids(
    behind_proxy: tuple[Served, Proxy], how: str
) -> None:
    """The script ran, its reply was lost: one resend, the same grants, none twice."""
    served, proxy = behind_proxy
    campaign_id = await served.campaign(quota=100)
    proxy.arm("swallow" if how == "swallow" else "reset")
    answers = await asyncio.gather(
        *(served.grab(campaign_id, f"u{n}", key=f"k{n}") for n in range(20)),
        *(served.grab(campaign_id, f"v{n}") for n in range(20)),
    )
    assert proxy.reached == 1
    assert served.metrics.values[("flashgrab_resends", ())] >= 1
    # A key may have been used before, so its holder hears "again"; without one nobody asked twice.
    assert {a.status_code for a in answers[:20]} <= {200, 201}
    assert {a.status_code for a in answers[20:]} == {201}
    facts = await served.facts(campaign_id)
    assert sorted(serial for _, serial, _, _ in facts) == list(range(1, 41))
    told = {a.json()["serial"] for a in answers}
    assert told == set(range(1, 41))
    serials = {user: serial for user, serial, _, _ in facts}
    assert [a.json()["serial"] for a in answers[:20]] == [serials[f"u{n}"] for n in range(20)]


async def test_without_the_resend_a_lost_reply_is_a_lost_answer(
    behind_proxy: tuple[Served, Proxy],
) -> None:
    """Negative control: a second lost reply is past the one resend, and the client gets 503;
    the grant stands and his repeat with the same key finds it."""
    served, proxy = behind_proxy
    campaign_id = await served.campaign()
    proxy.arm("reset")
    grab = asyncio.create_task(served.grab(campaign_id, key="k"))
    await until("the first reply is lost", lambda: proxy.reached == 1)
    proxy.arm("reset")
    answer = await grab
    assert proxy.reached == 2
    assert answer.json()["code"] == "BACKEND_UNAVAILABLE"
    await until("connected", served.gateway.wire.connected.is_set)
    again = await served.grab(campaign_id, key="k")
    assert (again.status_code, again.json()["serial"]) == (200, 1)
    assert len(await served.facts(campaign_id)) == 1


async def test_restart_of_redis_loses_no_grant(brief: Served, own_server: Valkey) -> None:
    """After kill -9 and restart: refused until the new run is confirmed, then every key replays,
    and grants go on with the next serial."""
    campaign_id = await brief.campaign(quota=100)
    first = [await brief.grab(campaign_id, f"u{n}", key="k") for n in range(5)]
    own_server.kill()
    while_down = await brief.grab(campaign_id, "u0", key="k")
    assert while_down.json()["code"] == "BACKEND_UNAVAILABLE"
    own_server.start()
    await until("connected", brief.gateway.wire.connected.is_set)
    refused = await brief.grab(campaign_id, "u0", key="k")
    assert (refused.status_code, refused.json()["code"]) == (503, "NOT_WARMED")
    assert "retry-after" in refused.headers

    report = await until("the new run is reported", lambda: _report_of_new_run(brief))
    assert report.floors[campaign_id] == 5
    assert await brief.store.confirm(campaign_id, 1, 5, await brief.store.run_id()) == 0
    again = [await brief.grab(campaign_id, f"u{n}", key="k") for n in range(6)]
    assert [a.status_code for a in again] == [200] * 5 + [201]
    assert [a.json()["grab_id"] for a in again[:5]] == [a.json()["grab_id"] for a in first]
    assert again[5].json()["serial"] == 6


async def _report_of_new_run(served: Served) -> object:
    try:
        run, reports = await served.store.run_id(), await served.store.gateways()
    except StoreUnavailable:
        return None
    return next((r for r in reports.values() if r.run == run), None)


async def test_older_data_in_place_of_the_real_ones_is_refused(served: Served) -> None:
    """A server that knows less than this gateway has seen grants nothing (the floor), is alarmed
    of once, and nothing known is unlearnt."""
    campaign_id = await served.campaign(quota=10)
    for n in range(3):
        await served.grab(campaign_id, f"u{n}")
    with capture_logs() as logs:
        await served.set(campaign_id, {"seq": 1, "serial": 1})
        answers = [await served.grab(campaign_id, f"w{n}") for n in range(3)]
    assert {a.json()["code"] for a in answers} == {"NOT_WARMED"}
    assert [log["alarm"] for log in logs] == ["redis-stale"]
    assert logs[0]["reason"] == "it has given 1 seqs, 3 were seen"
    assert served.known(campaign_id).floor == 3
    counted = served.metrics.values[("flashgrab_not_warmed", (campaign_id, "FLOOR"))]
    assert counted == 3


async def test_noscript_never_reaches_a_client(served: Served) -> None:
    """SCRIPT FLUSH between grabs: the script is loaded again, nobody notices."""
    campaign_id = await served.campaign(quota=50)
    for n in range(3):
        await served.store._redis.script_flush()
        requests = [Sent(campaign_id, served.token(campaign_id, f"u{n}-{m}")) for m in range(10)]
        answers = await crowd(served.port, requests, 10)
        assert {a.status for a in answers} == {201}


# -- replies that are odd ------------------------------------------------------------------------


async def test_moved_is_asked_again_with_the_time_learnt(served: Served) -> None:
    """A gateway whose idea of Redis' time is off picks other rounds; MOVED tells it, and the
    second call is right."""
    hours = [(n * HOUR_MS - 1000, (n + 1) * HOUR_MS - 1000, 5) for n in range(4)]
    campaign_id = await served.campaign(rounds=hours)
    wire = HeldWire(served.gateway.wire, released=True)
    batcher = served.through(wire, campaign_id)
    clock = served.gateway.redis_clock
    clock.observe(clock.now_ms() + 3 * HOUR_MS)
    decision = await batcher.submit("u", "", "k")
    assert wire.calls == [1, 1]
    assert (decision.outcome, decision.grants[0].round) == (Outcome.GRANTED, 1)


async def test_moved_twice_is_not_asked_a_third_time(served: Served) -> None:
    """Where the second call is MOVED too, the answer is NOT_WARMED, not a loop."""
    campaign_id = await served.campaign()
    wire = ToldWire([Verdict.MOVED.value, 1, 1, 0, await served.store.now_ms(), 0, -1])
    batcher = served.through(wire, campaign_id)
    decisions = await asyncio.gather(*(batcher.submit(f"u{n}", "", "k") for n in range(3)))
    assert outcomes(decisions) == {Outcome.NOT_WARMED: 3}
    assert wire.calls == [3, 3]


@pytest.mark.parametrize(
    "results", [[1], [1, 2, 3, 4], [1, 2, -99], [1, 2, b"R1,2"], [1, 2, None]], ids=str
)
async def test_a_reply_that_makes_no_sense_still_answers_everyone(
    served: Served, results: list[int | bytes | None]
) -> None:
    """Results too few, too many or unknown: 503 for all, said once, and the next batch works."""
    campaign_id = await served.campaign()
    now_ms = await served.store.now_ms()
    good = [0, 1, 1, 1, now_ms, 1, 9, 1]
    odd = [0, 1, 1, 1, now_ms, 1, 9, *results]
    batcher = served.through(ToldWire(odd, odd, good), campaign_id)
    with capture_logs() as logs:
        for _ in range(2):
            decisions = await asyncio.gather(*(batcher.submit(f"u{n}", "", "k") for n in range(3)))
            assert outcomes(decisions) == {Outcome.BACKEND_UNAVAILABLE: 3}
    assert [log["event"] for log in logs] == ["batch_failed"]
    assert batcher.requests == 0
    assert (await batcher.submit("u", "", "k")).outcome is Outcome.GRANTED


async def test_a_call_that_cannot_be_made_goes_the_longer_way(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that is raised where a call is made leaves its batch behind."""
    campaign_id = await served.campaign()
    wire = ToldWire([0, 1, 1, 1, await served.store.now_ms(), 1, 9, 1])
    monkeypatch.setattr(wire, "call", lambda *_: 1 / 0)
    batcher = served.through(wire, campaign_id)
    assert (await batcher.submit("u", "", "k")).outcome is Outcome.GRANTED
    assert batcher.requests == 0


@pytest.mark.parametrize("reply", [7, b"OK", None, [], [0], [9, 1, 1, 1, 1, 1, 1], {}])
async def test_what_is_no_reply_still_answers_everyone(served: Served, reply: object) -> None:
    """503, and no batch stays behind that would hold up the next ones."""
    campaign_id = await served.campaign()
    good = [0, 1, 1, 1, await served.store.now_ms(), 1, 9, 1]
    batcher = served.through(ToldWire(reply, good), campaign_id)
    with capture_logs() as logs:
        decision = await batcher.submit("u", "", "k")
    assert decision.outcome is Outcome.BACKEND_UNAVAILABLE
    assert [log["event"] for log in logs] == ["batch_failed"]
    assert batcher.requests == 0
    assert (await batcher.submit("u", "", "k")).outcome is Outcome.GRANTED


async def test_an_error_of_redis_answers_everyone_and_is_said_once(served: Served) -> None:
    """Redis refuses the call (out of memory): 503 for the batch, one line in the log, no resend."""
    campaign_id = await served.campaign()
    wire = ToldWire(StoreRefused("OOM command not allowed when used memory > 'maxmemory'."))
    batcher = served.through(wire, campaign_id)
    with capture_logs() as logs:
        for _ in range(3):
            decisions = await asyncio.gather(*(batcher.submit(f"u{n}", "", "k") for n in range(2)))
            assert outcomes(decisions) == {Outcome.BACKEND_UNAVAILABLE: 2}
    assert [log["alarm"] for log in logs] == ["redis-refuses"]
    assert wire.calls == [2, 2, 2]


async def test_a_client_that_goes_away_breaks_nothing(served: Served) -> None:
    """A connection that ends while its grab waits: its batch is answered, its grab is granted and
    found by its key."""
    campaign_id = await served.campaign()
    wire = HeldWire(served.gateway.wire)
    batcher = served.through(wire, campaign_id)
    _, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(request_bytes(Sent(campaign_id, served.token(campaign_id, "gone"), "k")))
    stays = asyncio.create_task(served.grab(campaign_id, "stays", key="k"))
    await until("both wait", lambda: batcher.requests == 2)
    writer.transport.abort()
    await turns()
    wire.release.set()
    assert (await stays).status_code == 201
    await until("both are decided", lambda: batcher.requests == 0)
    again = await served.grab(campaign_id, "gone", key="k")
    assert again.status_code == 200
    assert {user for user, *_ in await served.facts(campaign_id)} == {"gone", "stays"}


async def test_a_cancelled_request_leaves_its_batch_alone(served: Served) -> None:
    """A future that its task gave up is passed over; its neighbours get their own answers."""
    campaign_id = await served.campaign()
    wire = HeldWire(served.gateway.wire)
    batcher = served.through(wire, campaign_id)
    answers = [batcher.submit(f"u{n}", "", "k") for n in range(3)]
    await turns()
    answers[1].cancel()
    wire.release.set()
    first, last = await answers[0], await answers[2]
    assert (first.grants[0].serial, last.grants[0].serial) == (1, 3)
    (held,) = read_grants(await served.store.holder(campaign_id, "u1"))
    assert held.serial == 2
