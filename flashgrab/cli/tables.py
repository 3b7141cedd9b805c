"""Campaigns on a terminal: tables, and times in the local zone and in UTC."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from flashgrab.clock import from_rfc3339

PIPE_WIDTH = 200
"""Columns where nobody looks: nothing is cut in a pipe."""


def print_json(value: Any) -> None:
    """JSON for programs, indented for people."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_campaigns(found: Sequence[Mapping[str, Any]]) -> None:
    """One line a campaign."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("campaign", "status", "redis", "rounds", "quota", "opens", "closes", "name"):
        table.add_column(column, overflow="fold", no_wrap=column in ("campaign", "status"))
    for c in found:
        table.add_row(
            c["campaign_id"],
            c["status"],
            "" if c["status"] == "DRAFT" else _yes(c["applied"]),
            str(c["rounds"]),
            str(c["quota"]),
            local_and_utc(c["opens_at"]),
            local_and_utc(c["closes_at"]),
            c["name"],
        )
    _console().print(table if found else "no campaigns yet: flashgrab campaign create FILE")


def print_campaign(c: Mapping[str, Any]) -> None:
    """The ledger's side, Redis' side, and a row a round."""
    redis = c["redis"]
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    for name, value in (
        ("campaign", c["campaign_id"]),
        ("name", c["name"]),
        ("status", c["status"]),
        ("version", f"{c['version']}, in Redis {c['applied_version'] or 'never'}"),
        ("limits", f"{c['definition']['per_user']} a user, {_device(c['definition'])}"),
        ("durability", c["definition"].get("durability", "fsync")),
        ("created", local_and_utc(c["created_at"])),
        ("published", local_and_utc(c["published_at"])),
        ("last operation", c["operation"]),
        ("in Redis", _yes(c["warmed"])),
        ("confirmed", _yes(c["confirmed"])),
        ("facts", f"seq {redis['seq']}, watermark {redis['watermark']}" if redis else "-"),
        ("epoch", str(c["epoch"])),
        ("trouble", c["trouble"] or "-"),
    ):
        facts.add_row(name, value)
    console = _console()
    console.print(facts)
    if c["rounds"]:
        console.print(_rounds(c["rounds"], redis["rounds"] if redis else []))


def _rounds(ledger: Sequence[Mapping[str, Any]], redis: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("round", "opens", "closes"):
        table.add_column(column, overflow="fold")
    for column in ("quota", "left", "granted", "returned", "in ledger"):
        table.add_column(column, justify="right")
    for number, row in enumerate(ledger):
        now = redis[number] if number < len(redis) else {}
        counts = (row["quota"], now.get("left"), now.get("granted"), now.get("returned"))
        table.add_row(
            str(row["round"]),
            local_and_utc(row["opens_at"]),
            local_and_utc(row["closes_at"]),
            *("-" if count is None else str(count) for count in counts),
            str(row["granted"]),
        )
    return table


def print_dead_letters(found: Sequence[Mapping[str, Any]]) -> None:
    """One line a letter."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("id", "campaign", "seq", "since", "settled", "why"):
        table.add_column(column, overflow="fold", justify="right" if column == "seq" else "left")
    for letter in found:
        table.add_row(
            letter["id"],
            letter["campaign_id"] or "-",
            "-" if letter["seq"] is None else str(letter["seq"]),
            local_and_utc(letter["at"]),
            local_and_utc(letter["settled_at"]),
            f"{letter['reason']}: {letter['detail']}",
        )
    _console().print(table if found else "no dead letters")


def print_tokens(found: Sequence[Mapping[str, Any]]) -> None:
    """One line a token, link or session."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("id", "kind", "name", "role", "by", "made", "until", "revoked"):
        table.add_column(column, overflow="fold", no_wrap=column == "id")
    for one in found:
        table.add_row(
            *(one[name] for name in ("id", "kind", "name", "role", "made_by")),
            *(local_and_utc(one[name]) for name in ("created_at", "expires_at", "ended_at")),
        )
    _console().print(table if found else "no tokens yet: flashgrab token create")


def print_staff_log(found: Sequence[Mapping[str, Any]]) -> None:
    """One line a write."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("at", "who", "role", "what", "on", "outcome", "before", "after"):
        table.add_column(column, overflow="fold")
    for one in found:
        table.add_row(
            local_and_utc(one["at"]),
            one["name"],
            one["role"],
            one["action"],
            one["target"] or "-",
            one["code"] or "unknown",
            *("-" if one[side] is None else json.dumps(one[side]) for side in ("before", "after")),
        )
    _console().print(table if found else "nothing was done yet")


def local_and_utc(text: str | None) -> str:
    """`2026-11-22 18:00:00 +0800 (10:00:00Z)`; "-" for none. The date of UTC only if it differs."""
    if text is None:
        return "-"
    utc = datetime.fromtimestamp(from_rfc3339(text) / 1000, UTC)
    local = utc.astimezone()
    other_day = f"{utc:%Y-%m-%d} " if utc.date() != local.date() else ""
    return f"{local:%Y-%m-%d %H:%M:%S %z} ({other_day}{utc:%H:%M:%S}Z)"


def _device(definition: Mapping[str, Any]) -> str:
    per_device = definition.get("per_device", 0)
    return f"{per_device} a device" if per_device else "any number a device"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _console() -> Console:
    """Plain text: nothing in a name is markup."""
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(width=width, markup=False, emoji=False, highlight=False)
