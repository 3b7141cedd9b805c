"""What the dashboards show: panels by dashboard, each with its expressions."""

from dataclasses import dataclass, field

C = 'campaign=~"$campaign"'
R = "[$__rate_interval]"


@dataclass(frozen=True)
class Panel:
    """One chart: its expressions by legend, the unit in Grafana's words, and what it says."""

    title: str
    says: str
    expressions: dict[str, str]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 12
    stacked: bool = False


@dataclass(frozen=True)
class Dashboard:
    """One page of panels."""

    name: str
    title: str
    panels: list[Panel] = field(default_factory=list)


def _quantiles(metric: str, by: str = "le") -> dict[str, str]:
    return {
        f"p{words}": f"histogram_quantile({share}, sum by ({by}) (rate({metric}_bucket{R})))"
        for words, share in (("50", 0.5), ("95", 0.95), ("99", 0.99), ("99.9", 0.999))
    }


SALE = Dashboard(
    "sale",
    "Flashgrab: the sale",
    [
        Panel(
            "Grabs a second, by outcome",
            "What buyers were told. Prometheus sees a sale of two seconds as one point; the"
            " centre's console shows it in tenths of a second.",
            {"{{outcome}}": f"sum by (outcome) (rate(flashgrab_grabs_total{{{C}}}{R}))"},
            "reqps",
            width=16,
            stacked=True,
        ),
        Panel(
            "Granted",
            "Since the gateways' start.",
            {
                "{{campaign}}": "sum by (campaign) (flashgrab_grabs_total"
                f'{{{C}, outcome="GRANTED"}})'
            },
            kind="stat",
            width=8,
        ),
        Panel(
            "Left",
            "Of several gateways the one that heard last.",
            {"{{campaign}} {{round}}": f"min by (campaign, round) (flashgrab_left{{{C}}})"},
        ),
        Panel(
            "Sold out in",
            "At the pace of the last half minute; nothing where none go.",
            {
                "{{campaign}} {{round}}": f"min by (campaign, round) (flashgrab_left{{{C}}}"
                f" / (-deriv(flashgrab_left{{{C}}}[30s]) > 0.01))"
            },
            "s",
        ),
        Panel(
            "Time to the answer",
            "Of grabs that the script decided; a refusal from memory takes some microseconds.",
            _quantiles("flashgrab_grab_seconds"),
            "s",
        ),
        Panel(
            "Time to the answer, all of it",
            "Grabs by how long they took.",
            {"{{le}}": f"sum by (le) (increase(flashgrab_grab_seconds_bucket{R}))"},
            kind="heatmap",
        ),
        Panel(
            "Grabs of one script call",
            "The wider, the cheaper: an average.",
            {
                "": f"sum(rate(flashgrab_batch_size_sum{R}))"
                f" / clamp_min(sum(rate(flashgrab_batch_size_count{R})), 0.001)"
            },
        ),
        Panel(
            "Script calls",
            "As their callers see them: Redis, its disk, and the way there.",
            {
                "{{script}} p99": "histogram_quantile(0.99, sum by (le, script)"
                f" (rate(flashgrab_script_seconds_bucket{R})))"
            },
            "s",
        ),
        Panel(
            "Refused from memory",
            "What cost no Redis command.",
            {"{{reason}}": f"sum by (reason) (rate(flashgrab_refused_locally_total{R}))"},
            "reqps",
        ),
        Panel(
            "Waiting",
            "Grabs in flight, those that may wait while others are told BUSY, and those told so.",
            {
                "in flight": "sum(flashgrab_inflight)",
                "may wait {{campaign}}": f"sum by (campaign) (flashgrab_admitted_max{{{C}}})",
                "told BUSY a second": f"sum(rate(flashgrab_shed_total{{{C}}}{R}))",
            },
        ),
    ],
)

BOOKS = Dashboard(
    "books",
    "Flashgrab: the books",
    [
        Panel(
            "Invariants",
            "1: the live audit finds it kept.",
            {
                "{{campaign}} {{invariant}}": "min by (campaign, invariant)"
                f" (flashgrab_invariant_ok{{{C}}})"
            },
            kind="stat",
            width=24,
        ),
        Panel(
            "Alarms",
            "Those that are on now; docs/runbook.md says what to do.",
            {"{{alarm}}": "max by (alarm) (flashgrab_alarm) > 0"},
            kind="stat",
        ),
        Panel(
            "Alarms that began",
            "In five minutes.",
            {"{{alarm}}": "sum by (alarm) (increase(flashgrab_alarms_begun_total[5m])) > 0"},
        ),
        Panel(
            "Outbox",
            "Entries, each of one script call, that the ledger has not accounted for.",
            {"{{campaign}}": f"max by (campaign) (flashgrab_outbox_entries{{{C}}})"},
        ),
        Panel(
            "Not yet in Kafka",
            "Age of the oldest fact.",
            {"": "max(flashgrab_relay_lag_seconds)"},
            "s",
        ),
        Panel(
            "Not yet in the ledger",
            "Facts above the watermark.",
            {"{{campaign}}": f"max by (campaign) (flashgrab_persist_lag_serials{{{C}}})"},
        ),
        Panel(
            "In the ledger in",
            "At the pace of the last minute.",
            {
                "": "sum(flashgrab_persist_lag_serials)"
                " / clamp_min(sum(rate(flashgrab_persisted_facts_total[1m])), 1)"
            },
            "s",
        ),
        Panel(
            "Facts a second",
            "On their way.",
            {
                "to Kafka": f"sum(rate(flashgrab_relayed_facts_total{R}))",
                "to the ledger": f"sum(rate(flashgrab_persisted_facts_total{R}))",
            },
            "reqps",
        ),
        Panel(
            "Dead letters",
            "In five minutes.",
            {"{{reason}}": "sum by (reason) (increase(flashgrab_dead_letters_total[5m]))"},
        ),
        Panel(
            "Relays that lead",
            "One, always; of the others each waits.",
            {"": "sum(flashgrab_relay_leads)"},
            kind="stat",
        ),
    ],
)

PARTS = Dashboard(
    "parts",
    "Flashgrab: the parts",
    [
        Panel(
            "Up",
            "Whether its metrics answer.",
            {"{{job}} {{instance}}": 'up{job=~"flashgrab-.+"}'},
            kind="stat",
        ),
        Panel(
            "Release",
            "What runs.",
            {"{{part}} {{version}}": "sum by (part, version) (flashgrab_build_info)"},
            kind="stat",
        ),
        Panel(
            "CPU",
            "Cores, all processes of the part.",
            {
                "{{job}} {{instance}}": "sum by (job, instance)"
                f" (rate(process_cpu_seconds_total{R}))"
            },
        ),
        Panel(
            "Memory",
            "Resident; what processes share is counted for each.",
            {
                "{{job}} {{instance}}": "process_resident_memory_bytes",
                "address space": "sum(process_virtual_memory_bytes)",
            },
            "bytes",
        ),
        Panel(
            "Open files",
            "A share of those that may be open; a connection is one.",
            {"{{job}} {{instance}}": "process_open_fds / process_max_fds"},
            "percentunit",
        ),
        Panel(
            "Starts",
            "In the last hour.",
            {"{{job}} {{instance}}": "changes(process_start_time_seconds[1h])"},
        ),
        Panel(
            "Connections",
            "Open, held back while the loop is late, and refused a second.",
            {
                "open {{instance}}": "flashgrab_connections",
                "held {{instance}}": "flashgrab_held_connections",
                "{{reason}}": f"sum by (reason) (rate(flashgrab_connections_refused_total{R}))",
            },
        ),
        Panel(
            "The loop is late by",
            "The gateway's own CPU is the bottleneck where it stays above 0.1 s.",
            {"{{instance}}": "flashgrab_loop_late_seconds"},
            "s",
        ),
        Panel(
            "Redis, as gateways see it",
            "Connections made, calls sent again, calls refused whole.",
            {
                "connects": f"sum(rate(flashgrab_redis_connects_total{R}))",
                "sent again": f"sum(rate(flashgrab_resends_total{R}))",
                "{{verdict}}": f"sum by (verdict) (rate(flashgrab_not_warmed_total{R}))",
            },
        ),
        Panel(
            "At the door",
            "Requests for passes, and limits that one process alone has counted.",
            {
                "risk {{mode}} {{decision}}": "sum by (mode, decision)"
                f" (rate(flashgrab_risk_decisions_total{R}))",
                "challenge {{result}}": f"sum by (result) (rate(flashgrab_challenges_total{R}))",
                "counted alone": f"sum(rate(flashgrab_limited_alone_total{R}))",
            },
        ),
    ],
)

DASHBOARDS = (SALE, BOOKS, PARTS)
