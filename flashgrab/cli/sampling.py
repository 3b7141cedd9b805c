"""Asks the parts of a stack what they measure; they may come and go in between."""

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from flashgrab.cli import readings, target
from flashgrab.cli.failure import Failure
from flashgrab.cli.readings import Line, Reading, Sample
from flashgrab.cli.target import Target

TIMEOUT_S_MAX = 0.8
NOTHING = Line({}, None, None, None, None, None, None, ())
"""Before anything was heard."""


@dataclass(frozen=True, slots=True)
class Samples:
    """What one address said at one moment (monotonic)."""

    at_s: float
    samples: list[Sample]

    def of(self, campaign: str | None) -> Reading:
        return readings.of_samples(self.samples, self.at_s, campaign)


@dataclass(frozen=True, slots=True)
class Round:
    """What all parts said now and the last time that each was heard, by address.

    `silent` are the parts of which none answers; `public` is what the gateway tells buyers.
    """

    before: Mapping[str, Samples]
    now: Mapping[str, Samples]
    silent: list[str]
    target: Target | None = None
    public: Mapping[str, Any] = field(default_factory=dict)

    def line(self, campaign: str | None) -> Line:
        """What happened in between, in one campaign or all."""
        before = {url: said.of(campaign) for url, said in self.before.items()}
        return readings.compare(before, {url: said.of(campaign) for url, said in self.now.items()})

    def campaigns(self) -> set[str]:
        """Those that the parts name."""
        names: set[str] = set()
        return names.union(*(readings.campaigns_of(said.samples) for said in self.now.values()))


def client(timeout_s: float) -> httpx2.AsyncClient:
    """What asks them. Only a gateway's address of the environment may need certificates."""
    verify = target.has_tls(os.environ.get("FLASHGRAB_GATEWAY_URL") or "http://")
    return httpx2.AsyncClient(timeout=timeout_s, trust_env=False, verify=verify)


class Sampler:
    """Asks all parts at once; a part that does not answer in time is silent this time."""

    def __init__(self, data: Path | None, http: httpx2.AsyncClient, *, public: bool) -> None:
        self._data = data
        self._http = http
        self._public = public
        self._known: dict[str, Samples] = {}

    async def ask(self) -> Round:
        try:
            found = target.find(self._data)
        except Failure:
            found = None
        addresses = found.metrics if found else {}
        urls = [(part, url) for part in target.METRICS_PORTS for url in addresses.get(part, ())]
        public, *said = await asyncio.gather(
            self._campaigns(found), *(self._metrics(url) for _, url in urls)
        )
        before = dict(self._known)
        now = {url: each for (_, url), each in zip(urls, said, strict=True) if each is not None}
        self._known |= now
        answering = {part for part, url in urls if url in now}
        silent = [part for part in target.METRICS_PORTS if part not in answering]
        return Round(before, now, silent, found, public)

    async def _metrics(self, url: str) -> Samples | None:
        try:
            reply = await self._http.get(url)
            text = reply.raise_for_status().text
            return Samples(time.monotonic(), readings.parse(text))
        except (httpx2.HTTPError, ValueError, KeyError):
            return None

    async def _campaigns(self, found: Target | None) -> dict[str, Any]:
        if found is None or not self._public or not found.gateway_url:
            return {}
        try:
            reply = await self._http.get(f"{found.gateway_url}/v1/campaigns")
            body = reply.raise_for_status().json()
        except (httpx2.HTTPError, ValueError):
            return {}
        return body if isinstance(body, dict) else {}
