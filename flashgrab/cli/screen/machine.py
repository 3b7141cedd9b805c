"""The processes of a stack on this machine, by what run.json lists."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import psutil

from flashgrab.cli.screen.view import Process

PARTS = ("gateway", "relay", "worker", "centre", "valkey", "limiter", "kafka", "postgres")


class Processes:
    """Looks at them; a process' CPU is that since the look before."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, float], psutil.Process] = {}

    def look(self, shown: Mapping[str, Sequence[Mapping[str, Any]]]) -> tuple[Process, ...]:
        """Those of them that run, part by part."""
        named = [
            (part, int(entry["pid"]))
            for part in PARTS
            for entry in shown.get(part, ())
            if entry.get("pid")
        ]
        known, found = self._known, []
        self._known = {}
        for part, pid in named:
            try:
                process = psutil.Process(pid)
                key = pid, process.create_time()
                process = known.get(key, process)
                cpu = process.cpu_percent(None)
                found.append(
                    Process(
                        part,
                        pid,
                        cpu if key in known else None,
                        process.memory_info().rss // 1024**2,
                        max(int(time.time() - key[1]), 0),
                    )
                )
                self._known[key] = process
            except psutil.Error:  # it has just ended
                continue
        return tuple(found)
