"""`flashgrab doctor`: is everything set up so that the promises can hold? (contract §4)"""

import asyncio
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flashgrab.cli.checkup.hints import Finding, judged
from flashgrab.cli.failure import Failure
from flashgrab.cli.target import DEFAULT_DATA, DataOption, Target, find, has_tls, read_run_file

app = typer.Typer(rich_markup_mode=None)

PORTS = {"gateway": 8000, "centre": 8001}
SIGNS = {"ok": "✓", "warn": "!", "bad": "✗"}
_ASK_S = 10.0


@app.command(epilog="Examples: flashgrab doctor --json · flashgrab doctor --bundle support.zip")
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="The findings as JSON.")] = False,
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.zip",
            dir_okay=False,
            help="Write findings, settings, versions and logs there, secrets masked.",
        ),
    ] = None,
    data: DataOption = None,
) -> None:
    """Look at settings, services, clocks and the machine, and say what to change.

    Changes nothing. ✓ is well, ! is worth a look, ✗ breaks a promise: exit 1.
    """
    found = look(data)
    well = all(finding.state != "bad" for finding in found)
    if bundle is not None:
        write_bundle(bundle, found, data)
    if as_json:
        from flashgrab.cli.tables import print_json

        print_json({"ok": well, "findings": [finding.as_json() for finding in found]})
    else:
        _print(found)
    raise typer.Exit(0 if well else 1)


def look(data: Path | None) -> list[Finding]:
    """Every finding. Where nothing runs, what can be said of machine and folder."""
    from flashgrab.cli.checkup import machine

    found = [machine.files(), machine.backlog(), machine.server(), machine.governor()]
    found += [machine.memory(), *machine.settings()]
    folder = data or Path(os.environ.get("FLASHGRAB_DATA") or DEFAULT_DATA)
    try:
        target = find(data)
    except Failure as nothing:
        if folder.exists():
            found += machine.folder(folder)
        else:
            found += machine.ports(PORTS)
        return [*found, Finding("running", "warn", str(nothing))]
    found.append(machine.audience(_environments(target.folder)["gateway"]))
    if target.folder is not None:
        found += machine.folder(target.folder)
    return [*found, *asyncio.run(_services(target))]


def _environments(folder: Path | None) -> dict[str, Mapping[str, str]]:
    """What the parts run with."""
    from flashgrab.cli.stack import environments

    shown = read_run_file(folder) if folder else {}
    return environments.of_parts(folder, shown, os.environ)


def write_bundle(path: Path, found: list[Finding], data: Path | None) -> None:
    """The zip for whoever is to help, and a line that says so on stderr."""
    from flashgrab.cli import config
    from flashgrab.cli.checkup import bundle
    from flashgrab.cli.stack import environments
    from flashgrab.cli.stack.secretsfile import read_env_file

    folder = data or Path(os.environ.get("FLASHGRAB_DATA") or DEFAULT_DATA)
    try:
        target = find(data)
    except Failure:
        target = Target("nothing", folder=folder if folder.exists() else None)
    known = [os.environ, *_known_environments(target)]
    if target.folder is not None:
        known.append(read_env_file(target.folder / "secrets.env"))
    names = bundle.write(
        path,
        found,
        settings=[asdict(setting) for setting in config.read(data, os.environ)],
        folder=target.folder,
        secrets=environments.secrets_of(known),
        metrics=asyncio.run(_metrics(target)),
    )
    print(f"wrote {path} ({len(names)} files, secrets masked)", file=sys.stderr)


def _known_environments(target: Target) -> list[Mapping[str, str]]:
    try:
        return list(_environments(target.folder).values())
    except Failure:  # nothing runs there
        return []


async def _metrics(target: Target) -> dict[str, str]:
    """What each part that answers measures."""
    import httpx2

    found = {}
    verify = any(has_tls(url) for urls in target.metrics.values() for url in urls)
    async with httpx2.AsyncClient(timeout=_ASK_S, trust_env=False, verify=verify) as http:
        for part, urls in target.metrics.items():
            for number, url in enumerate(urls, 1):
                with suppress(httpx2.HTTPError):
                    found[f"{part}-{number}"] = (await http.get(url)).text
    return found


async def _services(target: Target) -> list[Finding]:
    """All at once: each has its own deadline."""
    from flashgrab.cli.checkup import services
    from flashgrab.clock import SystemClock

    asked = []
    if target.redis_url:
        asked.append(services.redis(target.redis_url, SystemClock()))
    if target.postgres_url:
        asked.append(services.postgres(target.postgres_url, SystemClock()))
    if target.kafka_bootstrap:
        workers = max(len(target.metrics.get("worker", ())), 1)
        asked.append(services.kafka(target.kafka_bootstrap, workers))
    if target.limiter_url:
        asked.append(services.limiter(target.limiter_url, target.redis_url))
    elif target.redis_url:
        asked.append(_no_limiter())
    for name, url in (("gateway", target.gateway_url), ("centre", target.centre_url)):
        if url:
            asked.append(_part(name, url))
    return [finding for each in await asyncio.gather(*asked) for finding in each]


async def _no_limiter() -> list[Finding]:
    return [Finding("limiter", "warn", "FLASHGRAB_LIMITER_URL is not set")]


async def _part(name: str, url: str) -> list[Finding]:
    import httpx2

    async with httpx2.AsyncClient(timeout=_ASK_S, trust_env=False, verify=has_tls(url)) as http:
        try:
            answer = await http.get(f"{url}/readyz")
        except httpx2.HTTPError as error:
            return [Finding(name, "bad", f"{url} does not answer ({error})")]
    said = "ready" if answer.is_success else answer.text[:200]
    return [judged(name, answer.is_success, f"{url}: {said}")]


def _print(found: list[Finding]) -> None:
    width = max(len(finding.title) for finding in found)
    for finding in found:
        print(f"{SIGNS[finding.state]} {finding.title:<{width}}  {finding.detail}")
        if finding.remedy:
            print(f"  {'':<{width}}  → {finding.remedy}")
    bad = sum(finding.state == "bad" for finding in found)
    print(f"{bad} to be changed" if bad else "nothing has to be changed")
