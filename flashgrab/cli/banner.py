"""What `flashgrab up` says when everything runs, and when it has stopped. Pure, but for the
countdown on a terminal."""

import asyncio
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

_NAME = 9


@dataclass(frozen=True, slots=True)
class Demo:
    """The demo campaign; `opens_at_s` since 1970."""

    campaign_id: str
    opens_at_s: float
    quota: int


@dataclass(frozen=True, slots=True)
class Kept:
    """What a stopped stack has granted; `waiting` facts are not known to be in the ledger."""

    campaigns: int
    granted: int
    waiting: int


def banner(
    *,
    gateway: str,
    centre: str,
    metrics: str,
    sign_in: str | None,
    folder: Path,
    took_s: float,
    demo: Demo | None,
    now_s: float,
    program: str = "flashgrab",
) -> list[str]:
    """Addresses by role, where the state lies, and what to try next."""
    near = _near(folder)
    data = "" if near == Path(".flashgrab") else f" --data {near}"
    title = f"flashgrab {version('flashgrab')}, ready after {took_s:.1f} s"
    link = [f"  {'':<{_NAME}}{sign_in}"] if sign_in else []
    how = "the next line signs you in, once, within 10 minutes" if sign_in else "needs a sign-in"
    page = f"{gateway}/c/{demo.campaign_id}" if demo else f"{gateway}/"
    crowd = demo.campaign_id if demo else "ID"
    rows = [
        ("Buyer", page, opening(demo, now_s) if demo else "the campaigns that are public"),
        ("Ops", f"{centre}/ops", how),
        ("Docs", f"{gateway}/docs", f"the centre's: {centre}/docs"),
        ("Metrics", metrics, "the gateway's; all are in run.json"),
        ("State", str(near), "kept; delete the folder to begin anew"),
    ]
    width = max(len(address) for _, address, _ in rows)
    lines = [f"  {name:<{_NAME}}{address:<{width}}  {note}" for name, address, note in rows]
    tries = [
        f"{program} rehearse --campaign {crowd} --buyers 5000{data}",
        f"{program} top{data}",
        f"{program} audit --drain 30s{data}",
        f"{program} doctor{data}",
    ]
    return [
        "",
        title,
        *lines[:2],
        *link,
        *lines[2:],
        *(
            f"  {name:<{_NAME}}{line}"
            for name, line in zip(("Try", "", "", ""), tries, strict=True)
        ),
        f"  {'Ctrl-C':<{_NAME}}stops everything in order; what was granted stays",
        "",
    ]


def opening(demo: Demo, now_s: float) -> str:
    """When the demo campaign opens, or that it is open."""
    seconds = round(demo.opens_at_s - now_s)
    if seconds > 0:
        return f"a demo campaign opens in {seconds} s: {demo.quota} coupons"
    return "the demo campaign is open"


def stopped(kept: Kept | None, folder: Path) -> list[str]:
    """The last lines: what is on disk now."""
    if kept is None:
        return [f"state stays in {_near(folder)}"]
    where = "all in the ledger"
    if kept.waiting > 0:
        where = f"{kept.waiting:,} still in Valkey's log: the next start brings them to the ledger"
    granted = f"{_count(kept.granted, 'coupon')} granted, {where}"
    said = granted if kept.granted else "nothing granted yet"
    return [
        f"persisted: {_count(kept.campaigns, 'campaign')}, {said}",
        f"state stays in {_near(folder)}",
    ]


def _near(folder: Path) -> Path:
    """As one would type it here."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}" + ("" if number == 1 else "s")


def program_name(arguments: Sequence[str] = sys.argv) -> str:
    """How the command was called, so that what the banner says can be typed."""
    called = Path(arguments[0])
    found = shutil.which("flashgrab")
    if called.name != "flashgrab" or (
        found and os.path.realpath(found) == os.path.realpath(called)
    ):
        return "flashgrab"
    return os.path.relpath(called) if called.is_absolute() else str(called)


class Countdown:
    """The last line of a terminal, with the seconds to an opening; other lines go above it."""

    def __init__(self, write: Callable[[str], None], demo: Demo) -> None:
        self._write = write
        self._demo = demo
        self._shown = False

    def above(self, line: str) -> str:
        """A line that is to stand above the countdown."""
        return f"\r\x1b[K{line}" if self._shown else line

    async def run(self) -> None:
        """Until the opening."""
        self._shown = True
        try:
            while (left_s := self._demo.opens_at_s - time.time()) > 0:
                self._write(f"\r\x1b[K{self._demo.campaign_id} opens in {left_s:.0f} s")
                await asyncio.sleep(left_s % 1 or 1)
        finally:
            self._shown = False
            self._write("\r\x1b[K")
        self._write(f"{self._demo.campaign_id} is open: press the button\n")
