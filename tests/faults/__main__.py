"""`python -m tests.faults [--scenario F1] [--seeds 200] [--first 1]`: run scenarios, note results.

Exit status 1 where a promise was broken, 2 where a run showed nothing.
"""

import argparse
import asyncio
import sys
import time
import traceback
from contextlib import AsyncExitStack
from typing import Any

import uvloop

from tests.faults import results
from tests.faults.fault import NotReached
from tests.faults.runner import Run
from tests.faults.scenarios import ALL, Scenario
from tests.faults.stack import FaultStack, fault_stack
from tests.faults.table import table

FOUND_MAX = 10


class Runs:
    """Runs of one scenario, one after the other, on one stack as long as that is sound."""

    def __init__(self, scenario: Scenario, *, note: bool, short: bool) -> None:
        self._scenario = scenario
        self._short = scenario.short if short else None
        self._note = note
        self._open = AsyncExitStack()
        self._stack: FaultStack | None = None
        self.bad = 0
        self.idle = 0

    async def all(self, seeds: range) -> None:
        try:
            for seed in seeds:
                await self.one(seed)
        finally:
            await self._open.aclose()

    async def one(self, seed: int) -> None:
        """One run; whatever happens is its result."""
        began = time.monotonic()
        record: dict[str, Any] = {"scenario": self._scenario.name, "seed": seed}
        try:
            stack = await self._ready(seed)
            run = await (self._short or self._scenario.run)(stack, seed)
            record |= _record(run)
            failed = not run.ok or bool(run.missed)
        except* NotReached as error:
            record |= {"verdict": "not reached", "what": _first(error)}
            self.idle += 1
            failed = True
        except* Exception as error:
            record |= {"verdict": "failed", "what": _first(error)}
            traceback.print_exception(error)
            failed = True
        record |= results.circumstances() | {"seconds": round(time.monotonic() - began, 1)}
        if failed:
            self.bad += record["verdict"] != "not reached"
            if self._stack is not None:
                print(self._stack.logs(), file=sys.stderr)
        if failed or self._scenario.fresh:
            await self._open.aclose()
            self._stack = None
        if self._note:
            results.append(self._scenario.name, record)
        print(_line(record), flush=True)

    async def _ready(self, seed: int) -> FaultStack:
        if self._stack is None:
            shape = self._open.enter_context(self._scenario.shape())
            self._stack = await self._open.enter_async_context(fault_stack(shape, seed))
        return self._stack


def _record(run: Run) -> dict[str, Any]:
    found = [str(violation) for violation in run.violations] + run.audit
    return {
        "verdict": "violations" if not run.ok else "missed" if run.missed else "ok",
        **run.counts(),
        "found": found[:FOUND_MAX],
        "missed": run.missed,
        "schedule": [f"{e.fault} at {e.at_ms} for {e.for_ms} ms" for e in run.schedule],
        **run.figures,
    }


def _first(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"[:300]


def _line(record: dict[str, Any]) -> str:
    left_out = ("at", "commit", "machine", "scenario", "refused", "samples")
    shown = {key: value for key, value in record.items() if key not in left_out and value != []}
    return f"{record['scenario']} " + " ".join(f"{key}={value}" for key, value in shown.items())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--scenario", default="F1", choices=sorted(ALL))
    parser.add_argument("--seeds", "--runs", type=int, default=1, dest="runs")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--no-note", action="store_true", help="write no results")
    parser.add_argument("--table", action="store_true", help="print the table of all results")
    parser.add_argument("--short", action="store_true", help="where it takes minutes, seconds")
    told = parser.parse_args()
    if told.table:
        print(table(results.read()))
        return 0
    scenario = ALL[told.scenario]
    if why := scenario.missing():
        print(why, file=sys.stderr)
        return 2
    runs = Runs(scenario, note=not told.no_note, short=told.short)
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(runs.all(range(told.first, told.first + told.runs)))
    print(f"{scenario.name} {scenario.title}: {told.runs} runs, {runs.bad} bad, {runs.idle} idle")
    return 1 if runs.bad else 2 if runs.idle else 0


if __name__ == "__main__":
    sys.exit(main())
