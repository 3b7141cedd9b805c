"""What Prometheus calls an operator for: each alarm of flashgrab/alarms.py, and what only
Prometheus can see: a part that is away, shares of errors and slow answers, what lags."""

from dataclasses import dataclass

from flashgrab.alarms import Alarm

RUNBOOK = "http://127.0.0.1:8001/ops/runbook"
"""The centre serves docs/runbook.md there."""
TICKETS = frozenset(
    {
        Alarm.LIMITER_GONE, Alarm.LOGIN_KEYS, Alarm.CONNECTIONS_FULL, Alarm.TLS_PAIR_BROKEN,
        Alarm.OVERLOADED, Alarm.LOOP_LATE, Alarm.PROCESS_DIED, Alarm.RELAY_FENCED,
        Alarm.STALE_WORKER, Alarm.APPLY_FAILED, Alarm.REBUILD_WAITS, Alarm.RETURN_WAITS,
    }
)  # fmt: skip
"""Those that need nobody at once: grabs go on, and nothing is in danger."""
LOST = 'outcome=~"BACKEND_UNAVAILABLE|NOT_WARMED|BUSY"'
"""Answers that are no decision."""


@dataclass(frozen=True)
class Rule:
    """One alert. `held` is how long it must be so."""

    name: str
    expression: str
    summary: str
    anchor: str
    severity: str = "page"
    held: str = "0s"


def of_alarm(alarm: Alarm) -> Rule:
    """While a part shows it, and for a minute after one that came and went between two looks."""
    label = f'{{alarm="{alarm.anchor}"}}'
    begun = f"increase(flashgrab_alarms_begun_total{label}[1m])"
    return Rule(
        "Flashgrab" + "".join(word.capitalize() for word in alarm.anchor.split("-")),
        f"max by (job, instance) (flashgrab_alarm{label}) > 0"
        f" or max by (job, instance) ({begun}) > 0",
        alarm.value.words,
        alarm.anchor,
        "ticket" if alarm in TICKETS else "page",
    )


def _burn(bad: str, all_: str, share: float, times: float, short: str, long: str) -> str:
    """An error budget that burns so many times too fast, now and over a longer time
    (Beyer et al., The Site Reliability Workbook, 2018, chapter 5)."""
    over = [
        f"sum(rate({bad}[{window}])) > {share * times:g} * sum(rate({all_}[{window}]))"
        for window in (short, long)
    ]
    return f"({over[0]}) and ({over[1]})"


def _slow(bound: str, share: float, window: str) -> str:
    fast = f'sum(rate(flashgrab_grab_seconds_bucket{{le="{bound}"}}[{window}]))'
    all_ = f"sum(rate(flashgrab_grab_seconds_count[{window}]))"
    return f"({all_} - {fast}) > {share:g} * {all_}"


SEEN_FROM_OUTSIDE = (
    Rule(
        "FlashgrabPartDown",
        'up{job=~"flashgrab-.+"} == 0',
        "{{ $labels.job }} at {{ $labels.instance }} does not answer for its metrics",
        Alarm.PROCESS_DIED.anchor,
        held="15s",
    ),
    *(
        Rule(
            f"Flashgrab{part.capitalize()}Absent",
            f'absent(up{{job="flashgrab-{part}"}})',
            f"no {part} is known to Prometheus",
            Alarm.PROCESS_DIED.anchor,
            held="1m",
        )
        for part in ("gateway", "relay", "worker", "centre")
    ),
    Rule(
        "FlashgrabInvariantBroken",
        "min by (campaign, invariant) (flashgrab_invariant_ok) == 0",
        "{{ $labels.invariant }} does not hold in {{ $labels.campaign }}",
        Alarm.BOOKS_WRONG.anchor,
    ),
    Rule(
        "FlashgrabBooksNotAudited",
        "count(flashgrab_left) > 0 unless on () count(flashgrab_invariant_ok) > 0",
        "campaigns are open and no worker audits them",
        Alarm.LEDGER_BEHIND.anchor,
        held="1m",
    ),
    Rule(
        "FlashgrabGrabsLostFast",
        _burn(f"flashgrab_grabs_total{{{LOST}}}", "flashgrab_grabs_total", 0.001, 14.4, "1m", "5m"),
        "more than 1.4 % of grabs get no decision (503); 0.1 % is the target",
        Alarm.OVERLOADED.anchor,
    ),
    Rule(
        "FlashgrabGrabsLostSlowly",
        _burn(f"flashgrab_grabs_total{{{LOST}}}", "flashgrab_grabs_total", 0.001, 3, "5m", "1h"),
        "0.3 % of grabs and more get no decision (503); 0.1 % is the target",
        Alarm.OVERLOADED.anchor,
        "ticket",
    ),
    Rule(
        "FlashgrabGrabsSlow",
        f"({_slow('0.25', 0.01, '1m')}) and ({_slow('0.25', 0.01, '5m')})",
        "more than 1 % of grabs take longer than 250 ms",
        Alarm.REDIS_SLOW.anchor,
        "ticket",
    ),
    Rule(
        "FlashgrabRelayLags",
        "max(flashgrab_relay_lag_seconds) > 10",
        "facts wait for more than 10 s to reach Kafka",
        Alarm.KAFKA_GONE.anchor,
        held="15s",
    ),
    Rule(
        "FlashgrabNoRelayLeads",
        "sum(flashgrab_relay_leads) < 1",
        "no relay leads: facts stay in the outbox",
        Alarm.RELAY_FENCED.anchor,
        held="30s",
    ),
    Rule(
        "FlashgrabLedgerLags",
        "sum(flashgrab_persist_lag_serials) > 0"
        " and min_over_time(sum(flashgrab_persist_lag_serials)[1m:5s]) > 0"
        " and sum(rate(flashgrab_persisted_facts_total[1m])) == 0",
        "facts wait and for a minute none has reached the ledger",
        Alarm.LEDGER_BEHIND.anchor,
    ),
    Rule(
        "FlashgrabSellsOutSoon",
        "predict_linear(flashgrab_left[30s], 60) < 0 and flashgrab_left > 0",
        "round {{ $labels.round }} of {{ $labels.campaign }} is sold out within a minute",
        Alarm.OVERLOADED.anchor,
        "info",
    ),
    Rule(
        "FlashgrabFilesRunOut",
        "process_open_fds > 0.9 * process_max_fds",
        "{{ $labels.job }} at {{ $labels.instance }} has nearly all files open that it may have",
        Alarm.CONNECTIONS_FULL.anchor,
        "ticket",
        held="30s",
    ),
)


def rules() -> list[Rule]:
    """All of them."""
    return [*map(of_alarm, Alarm), *SEEN_FROM_OUTSIDE]
