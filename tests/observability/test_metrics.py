"""Contract §6 on a running stack: each part shows its own, and the numbers are the client's."""

import os
import signal
import time
from collections import Counter
from contextlib import ExitStack

import httpx2
import psutil
import pytest

from flashgrab import __version__
from flashgrab.measured import METRICS
from flashgrab.passes import PassKeys, issue
from tests.e2e.running import Stack, simple, until
from tests.observability.scraped import PARTS, Sample, scrape, total

pytestmark = [pytest.mark.xdist_group("observability")]

CONTRACT = {
    "gateway": {
        "flashgrab_grabs_total": {"campaign", "outcome"},
        "flashgrab_grab_seconds": set(),
        "flashgrab_batch_size": set(),
        "flashgrab_script_seconds": {"script"},
        "flashgrab_left": {"campaign", "round"},
        "flashgrab_inflight": set(),
        "flashgrab_refused_locally_total": {"reason"},
    },
    "relay": {"flashgrab_outbox_entries": {"campaign"}, "flashgrab_relay_lag_seconds": set()},
    "worker": {
        "flashgrab_persist_lag_serials": {"campaign"},
        "flashgrab_invariant_ok": {"campaign", "invariant"},
    },
    "centre": {},
}
"""As contract §6 has them, by the part that knows."""
SUFFIXES = ("_bucket", "_sum", "_count")


def outcome_of(answer: httpx2.Response) -> str:
    """As the metric names it."""
    if answer.status_code == 201:
        return "GRANTED"
    return "REPLAYED" if answer.status_code == 200 else str(answer.json()["code"])


def grab_many(stack: Stack, campaign_id: str, users: range, told: Counter[str]) -> None:
    """Each once, and each again with his key; what they were told is counted. Over four
    connections, so that both processes have their part."""
    keys = PassKeys.parse(stack.secrets()["FLASHGRAB_PASS_KEYS"])
    until_ms = int(time.time() * 1000) + 3_600_000
    url = f"{stack.gateway_url}/v1/campaigns/{campaign_id}/grabs"
    with ExitStack() as open_clients:
        clients = [open_clients.enter_context(httpx2.Client(timeout=20)) for _ in range(4)]
        for n in [*users, *users]:
            token = issue(keys, campaign_id, f"u{n}", "", until_ms)
            head = {"authorization": f"Bearer {token}", "idempotency-key": "k"}
            told[outcome_of(clients[n % 4].post(url, headers=head))] += 1


def by_outcome(stack: Stack, campaign_id: str) -> Counter[str]:
    """What the gateway says that it told."""
    return Counter(
        {
            s.labels["outcome"]: int(s.value)
            for s in scrape(stack, "gateway")
            if s.name == "flashgrab_grabs_total" and s.labels["campaign"] == campaign_id
        }
    )


def spec_of(sample: Sample) -> str:
    """The name in the registry that a sample belongs to."""
    for end in ("_total", *SUFFIXES):
        if sample.name.removesuffix(end) in METRICS and sample.name.endswith(end):
            return sample.name.removesuffix(end)
    return sample.name


def test_every_name_of_the_contract_has_real_values(watched: Stack) -> None:
    """After known grabs: names, labels, and values that are right, on the part that owns them."""
    before = scrape(watched, "gateway")  # others have asked it, too, and been told that it fails
    campaign_id = watched.campaign(simple("contract", quota=12))
    told: Counter[str] = Counter()
    grab_many(watched, campaign_id, range(16), told)
    assert told == {"GRANTED": 12, "REPLAYED": 12, "SOLD_OUT": 8}
    until("all are counted", lambda: by_outcome(watched, campaign_id) == told)

    def left() -> float:
        told = scrape(watched, "gateway")
        return total(told, "flashgrab_left", campaign=campaign_id, round="1")

    until("each process knows that nothing is left", lambda: left() == 0)
    gateway = scrape(watched, "gateway")

    def grown(name: str, **labels: str) -> float:
        return total(gateway, name, **labels) - total(before, name, **labels)

    decided = grown("flashgrab_grab_seconds_count")
    refused = grown("flashgrab_refused_locally_total")
    assert decided + refused == grown("flashgrab_grabs_total") == sum(told.values())
    assert grown("flashgrab_batch_size_sum") == decided
    calls = grown("flashgrab_batch_size_count")
    assert grown("flashgrab_script_seconds_count", script="grab") == calls > 0
    assert 0 < grown("flashgrab_grab_seconds_sum") < 60 * decided
    assert total(gateway, "flashgrab_inflight") == 0
    bounds = {s.labels["le"] for s in gateway if s.name == "flashgrab_grab_seconds_bucket"}
    assert {"0.00025", "0.0005", "0.001", "+Inf"} <= bounds

    def has(part: str, name: str, value: float, **labels: str) -> bool:
        found = [
            s.value
            for s in scrape(watched, part)
            if s.name == name and labels.items() <= s.labels.items()
        ]
        return bool(found) and set(found) == {value}

    here = {"campaign": campaign_id}
    until("the outbox is empty", lambda: has("relay", "flashgrab_outbox_entries", 0, **here))
    until("nothing lags", lambda: has("relay", "flashgrab_relay_lag_seconds", 0))
    until("the ledger is there", lambda: has("worker", "flashgrab_persist_lag_serials", 0, **here))
    until("the books balance", lambda: has("worker", "flashgrab_invariant_ok", 1, **here))
    worker = [s for s in scrape(watched, "worker") if s.labels.get("campaign") == campaign_id]
    lights = {s.labels.get("invariant") for s in worker if s.name == "flashgrab_invariant_ok"}
    assert lights == {f"I{n}" for n in range(1, 7)}


@pytest.fixture(scope="package")
def sold_out(watched: Stack) -> str:
    """A campaign that gives every metric of the contract a value."""
    campaign_id = watched.campaign(simple("sold-out", quota=1))
    grab_many(watched, campaign_id, range(4), Counter())
    return campaign_id


@pytest.mark.parametrize("part", PARTS)
def test_a_part_shows_its_own_and_nothing_else(watched: Stack, sold_out: str, part: str) -> None:
    """All that the contract says it has; every sample is of a metric of its own, with the labels
    of the registry; release and process are there."""

    def missing() -> set[str]:
        shown = {s.name.removesuffix("_bucket") for s in scrape(watched, part)}
        return set(CONTRACT[part]) - shown

    until(f"{part} shows {set(CONTRACT[part])}", lambda: not missing())
    samples = scrape(watched, part)
    for sample in samples:
        spec = METRICS[spec_of(sample)]
        assert part in spec.parts, sample
        assert set(sample.labels) - {"le"} == set(spec.labels), sample
    for name, labels in CONTRACT[part].items():
        assert set(METRICS[name.removesuffix("_total")].labels) == labels
    assert total(samples, "flashgrab_build_info", version=__version__, part=part) >= 1
    assert total(samples, "process_cpu_seconds_total") > 0
    assert 1e7 < total(samples, "process_resident_memory_bytes") < 1e10
    assert 3 < total(samples, "process_open_fds") < total(samples, "process_max_fds")
    assert 0 < time.time() - total(samples, "process_start_time_seconds") < 3600


@pytest.mark.slow
def test_counters_are_exact_when_a_process_dies(watched: Stack) -> None:
    """One of two gateway processes is killed after it has reported: no counter of the parent ever
    falls, and in the end they are what the client was told, before and after. (What it counted in
    its last tenth of a second would be lost with it: tests/gateway/test_reports.py.)"""
    campaign_id = watched.campaign(simple("dying", quota=100))
    told: Counter[str] = Counter()
    grab_many(watched, campaign_id, range(20), told)
    until("all are counted", lambda: by_outcome(watched, campaign_id) == told)
    before = [int(each["pid"]) for each in watched.run_json()["gateway"]]
    parent = psutil.Process(before[0]).parent()
    assert parent is not None
    highest: dict[tuple[str, str], float] = {}

    def never_falls() -> bool:
        for sample in scrape(watched, "gateway"):
            if METRICS[spec_of(sample)].kind != "gauge":
                key = (sample.name, str(sorted(sample.labels.items())))
                assert sample.value >= highest.get(key, 0), sample
                highest[key] = sample.value
        return True

    never_falls()
    os.kill(before[0], signal.SIGKILL)

    def is_replaced() -> bool:
        now = [int(each["pid"]) for each in watched.run_json()["gateway"]]
        return never_falls() and len(now) == 2 and before[0] not in now and parent.is_running()

    until("another takes its place", is_replaced)
    until("it serves", lambda: watched.get("/readyz") is not None and never_falls())
    grab_many(watched, campaign_id, range(20, 40), told)
    until(
        "all are counted",
        lambda: never_falls() and by_outcome(watched, campaign_id) == told,
    )
    assert told == {"GRANTED": 40, "REPLAYED": 40}
    gateway = scrape(watched, "gateway")
    assert total(gateway, "flashgrab_alarms_begun_total", alarm="process-died") == 1
