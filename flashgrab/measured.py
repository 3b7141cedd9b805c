"""What is measured: the closed registry of metrics (contract §6). Labels come from closed lists and
known campaigns only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from flashgrab.alarms import Part
from flashgrab.outcomes import Outcome

Labels = tuple[str, ...]


@dataclass(frozen=True)
class Spec:
    """One metric: kind, help, names of its labels, bucket bounds where it is a histogram; the parts
    that show values of it."""

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: Labels = ()
    bounds: tuple[float, ...] = ()
    parts: tuple[Part, ...] = ("gateway",)
    begun: Mapping[Part, tuple[str, ...]] = field(default_factory=dict)
    """Values of its one label that stand at 0 from the start."""

    def at_start(self, part: Part) -> list[Labels]:
        """What a part counts from 0: nobody sees by how much a series has grown that begins with
        its first count, and after a sale of two seconds there is no second one."""
        if self.kind == "gauge" or part not in self.parts:
            return []
        return [(value,) for value in self.begun.get(part, ())] if self.labels else [()]


RELAY: tuple[Part, ...] = ("relay",)
WORKER: tuple[Part, ...] = ("worker",)
ALL: tuple[Part, ...] = ("gateway", "relay", "worker", "centre")

DEAD = (
    *("UNDECODABLE", "UNKNOWN_EVENT", "WRONG_FORM", "UNKNOWN_CAMPAIGN", "UNKNOWN_ROUND"),
    *("UNKNOWN_EPOCH", "CLOSED_EPOCH", "CONFLICT", "UNKNOWN_GRANT"),
)
"""worker/forms.py says what each means."""
REFUSED = tuple(
    outcome.name
    for outcome in (
        *(Outcome.PASS_INVALID, Outcome.PASS_OTHER_CAMPAIGN, Outcome.BLOCKED),
        *(Outcome.CAMPAIGN_NOT_FOUND, Outcome.RATE_LIMITED, Outcome.NOT_WARMED, Outcome.REPLAYED),
        *(Outcome.OFFLINE, Outcome.ENDED, Outcome.PAUSED, Outcome.NOT_STARTED),
        *(Outcome.USER_LIMIT, Outcome.DEVICE_LIMIT, Outcome.SOLD_OUT),
    )
)
"""What a gateway may answer from memory."""

SECONDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1000.0)

METRICS: dict[str, Spec] = {
    "flashgrab_grabs": Spec("counter", "Grabs answered, by outcome", ("campaign", "outcome")),
    "flashgrab_grab_seconds": Spec("histogram", "From request read to answer", (), SECONDS),
    "flashgrab_batch_size": Spec("histogram", "Requests of one script call", (), SIZES),
    "flashgrab_script_seconds": Spec(
        "histogram",
        "Script call as the caller sees it",
        ("script",),
        SECONDS,
        parts=ALL,
        begun={
            "gateway": ("grab", "limit"),
            "relay": ("lease",),
            "worker": ("settle", "confirm", "books"),
        },
    ),
    "flashgrab_left": Spec("gauge", "Coupons that a round can still grant", ("campaign", "round")),
    "flashgrab_outbox_entries": Spec("gauge", "Entries in the outbox", ("campaign",), parts=RELAY),
    "flashgrab_relay_lag_seconds": Spec(
        "gauge", "Age of the oldest fact not yet in Kafka", parts=RELAY
    ),
    "flashgrab_relay_leads": Spec(
        "gauge", "1 where this relay holds the lease, 0 where it waits", parts=RELAY
    ),
    "flashgrab_relayed_facts": Spec("counter", "Facts acknowledged by Kafka", parts=RELAY),
    "flashgrab_persisted_facts": Spec("counter", "Facts written to the ledger", parts=WORKER),
    "flashgrab_persist_lag_serials": Spec(
        "gauge",
        "Facts given by Redis and not yet below the watermark",
        ("campaign",),
        parts=WORKER,
    ),
    "flashgrab_dead_letters": Spec(
        "counter",
        "Events that could not be stored",
        ("reason",),
        parts=RELAY + WORKER,
        begun={"relay": ("TORN_ENTRY",), "worker": DEAD},
    ),
    "flashgrab_invariant_ok": Spec(
        "gauge",
        "1 where the live audit finds the invariant kept",
        ("campaign", "invariant"),
        parts=WORKER,
    ),
    "flashgrab_inflight": Spec("gauge", "Requests being answered"),
    "flashgrab_connections": Spec("gauge", "Connections that are open"),
    "flashgrab_connections_refused": Spec(
        "counter", "Connections refused or given up before a request, by reason", ("reason",)
    ),
    "flashgrab_refused_locally": Spec(
        "counter", "Refusals without a Redis command", ("reason",), begun={"gateway": REFUSED}
    ),
    "flashgrab_limited_alone": Spec(
        "counter", "Requests held to rate limits by one process alone, the limiter being away"
    ),
    "flashgrab_risk_decisions": Spec(
        "counter", "What the risk rules say of requests for passes", ("mode", "decision")
    ),
    "flashgrab_challenges": Spec(
        "counter", "Challenges before a pass: asked, solved, wrong, unavailable", ("result",)
    ),
    "flashgrab_shed": Spec("counter", "Grabs told BUSY because others waited", ("campaign",)),
    "flashgrab_admitted_max": Spec(
        "gauge", "Grabs that may wait while new ones are told BUSY", ("campaign",)
    ),
    "flashgrab_loop_late_seconds": Spec("gauge", "By how much a gateway's loop was late last"),
    "flashgrab_held_connections": Spec("gauge", "New connections not read from, its loop is late"),
    "flashgrab_redis_connects": Spec("counter", "Connections made to Redis by the grab path"),
    "flashgrab_not_warmed": Spec(
        "counter", "Script calls refused whole, by verdict", ("campaign", "verdict")
    ),
    "flashgrab_resends": Spec("counter", "Batches sent a second time after a lost reply"),
    "flashgrab_alarm": Spec(
        "gauge", "1 while it is so; docs/runbook.md says more", ("alarm",), parts=ALL
    ),
    "flashgrab_alarms_begun": Spec("counter", "Alarms that have begun", ("alarm",), parts=ALL),
    "flashgrab_build_info": Spec("gauge", "1; which release runs", ("version", "part"), parts=ALL),
    "process_cpu_seconds": Spec("counter", "CPU time of the part's processes", parts=ALL),
    "process_resident_memory_bytes": Spec(
        "gauge", "Memory of the part's processes, what they share counted for each", parts=ALL
    ),
    "process_virtual_memory_bytes": Spec(
        "gauge", "Address space of the part's processes", parts=ALL
    ),
    "process_open_fds": Spec("gauge", "Open files of the part's processes", parts=ALL),
    "process_max_fds": Spec("gauge", "Files that they may have open", parts=ALL),
    "process_start_time_seconds": Spec(
        "gauge", "When the part was started, seconds since 1970", parts=ALL
    ),
}
"""Names without the `_total` that Prometheus adds to counters."""

ADDED = (
    "flashgrab_inflight",
    "flashgrab_connections",
    "flashgrab_held_connections",
    "flashgrab_admitted_max",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
    "process_open_fds",
    "process_max_fds",
)
"""Gauges of processes that are added up."""
LARGEST = ("flashgrab_alarm", "flashgrab_loop_late_seconds")
"""Those where what one process sees is so."""
FIRST = ("process_start_time_seconds",)
"""Those of the parent, which is merged first."""
