"""schemathesis against a running service: every phase and every check that it has.

It runs as a process of its own, with a configuration of the test's making; nothing but the
service's own address is asked.
"""

import asyncio
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

WITHIN_S = 200
PHASES = "examples,coverage,fuzzing,stateful"
OTHER_METHODS = ["DELETE", "TRACE"]
"""Each is tried at each address with each set of parameters: all of them would be half of it."""
USUAL = ["2XX", "3XX", "401", "403", "404", "409", "429", "5XX"]
_CASES = re.compile(r"(\d+) generated")


@dataclass(frozen=True)
class Fuzzing:
    """What is asked of one service."""

    url: str
    examples: int
    seed: int
    values: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Values that exist, by parameter (`path.campaign_id`): asked for now and then."""
    headers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Headers by path, "" for all other paths."""
    valid_refused: Sequence[int] = ()
    """Statuses that what fits the schema may get besides the usual ones: rules that none says."""

    without: Sequence[str] = ()
    """Paths that are not asked: their answers have no end."""

    either: Sequence[str] = ()
    """Paths with several ways to be let in: what is wrong beside what is right is let in."""

    def configuration(self) -> str:
        """As its TOML; JSON strings are TOML strings."""
        lines = [f"seed = {self.seed}", "continue-on-failure = true"]
        if "" in self.headers:
            lines += ["[headers]", *_pairs(self.headers[""])]
        for number, (parameter, values) in enumerate(self.values.items()):
            lines += [f"[dictionaries.d{number}]", f"values = {_text(list(values))}"]
            lines += [f'[parameters."{parameter}"]', f'dictionary = "d{number}"']
            lines += ["probability = 0.6"]
        lines += ["[phases.coverage]", f"unexpected-methods = {_text(OTHER_METHODS)}"]
        expected = _text([*USUAL, *map(str, self.valid_refused)])
        lines += ["[checks.positive_data_acceptance]", f"expected-statuses = {expected}"]
        lines += ["[generation]", f"max-examples = {self.examples}", 'database = "none"']
        for path, headers in self.headers.items():
            if path:
                lines += ["[[operations]]", f"include-path = {_text(path)}"]
                lines += ["[operations.headers]", *_pairs(headers)]
        for path in self.either:
            lines += ["[[operations]]", f"include-path = {_text(path)}"]
            lines += ["checks.ignored_auth.enabled = false"]
        return "\n".join(lines) + "\n"


async def fuzzed(what: Fuzzing, folder: Path) -> tuple[int, str]:
    """How many cases were tried, and what was found: "" for nothing."""
    configuration = folder / "schemathesis.toml"
    configuration.write_text(what.configuration())
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("FLASHGRAB_", "SCHEMATH"))}
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(configuration)),
        *("run", f"{what.url}/openapi.json", "--phases", PHASES),
        *("--no-color", "--workers", "1"),
        *(word for path in what.without for word in ("--exclude-path", path)),
        cwd=folder,
        env=clean,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(WITHIN_S):
            output, _ = await child.communicate()
    except BaseException:
        child.kill()
        await child.wait()
        raise
    said = output.decode(errors="replace")
    cases = sum(int(n) for n in _CASES.findall(said))
    return cases, "" if child.returncode == 0 else said


def _text(value: object) -> str:
    return orjson.dumps(value).decode()


def _pairs(headers: Mapping[str, str]) -> list[str]:
    return [f"{_text(name)} = {_text(value)}" for name, value in headers.items()]
