"""The same sequences through two real gateways: what they say from memory is true, too."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import Flaky
from hypothesis.stateful import run_state_machine_as_test

from flashgrab.outcomes import Outcome
from gateway import campaigns
from gateway.campaigns import Campaign
from gateway.decisions import Decision
from gateway.holders import Filter
from gateway.memory import Memory
from tests.lua.server import Client, valkey
from tests.model.gateways import Gateways, two_gateways
from tests.model.http_machine import Http

STEPS_MAX = 12
REFRESH_MS = 100
"""Instead of 800: how long a lost push is waited for here."""
settings.register_profile(
    "http", max_examples=100, stateful_step_count=STEPS_MAX, deadline=None, database=None,
    phases=[Phase.generate], suppress_health_check=list(HealthCheck),
)  # fmt: skip
"""Without shrinking: what depends on two gateways and a clock does not fail twice alike."""
settings.register_profile("http-ci", settings.get_profile("http"), max_examples=300)


@pytest.fixture(scope="module")
def world() -> Iterator[tuple[Client, Gateways]]:
    with pytest.MonkeyPatch.context() as patch, valkey(tcp=True) as server:
        patch.setattr(campaigns, "REFRESH_MS", REFRESH_MS)
        client = Client(server.path)
        with two_gateways(server.url) as gateways:
            yield client, gateways
        client.close()


def _run(world: tuple[Client, Gateways], profile: str, *, push: bool) -> type[Http]:
    class Real(Http):
        pass

    Real.redis, Real.gateways = world
    Real.push = push
    run_state_machine_as_test(Real, settings=settings.get_profile(profile))
    return Real


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "push",
    [
        pytest.param(True, id="pushed", marks=pytest.mark.xdist_group("http pushed")),
        pytest.param(False, id="pushes lost", marks=pytest.mark.xdist_group("http lost")),
    ],
)
def test_two_gateways_say_what_the_oracle_allows(
    world: tuple[Client, Gateways], push: bool
) -> None:
    """In every sequence each answer is one that was true while it was asked for, or at most a
    second before where the push of a change was lost; and grants are the script's, in order."""
    real = _run(world, "http-ci" if os.environ.get("CI") == "true" else "http", push=push)
    assert real.answers > settings.get_profile("http").max_examples
    for served in real.gateways.served:
        assert served.gateway.desk.frames, "no request took the lane"


def _no_replay(
    memory: Memory, campaign: Campaign, closed: Outcome | None, user: bytes, device: bytes,
    _request_id: bytes, now_ms: int,
) -> Decision | None:  # fmt: skip
    """What memory says of somebody it knows, but for his own key."""
    return memory_says(memory, campaign, closed, user, device, b"", now_ms)


memory_says = Memory._again
FAULTS: list[tuple[Any, str, Any]] = [
    (Filter, "may_hold", lambda *_: False),
    (Memory, "_again", _no_replay),
    (Memory, "_stands", lambda *_: True),
]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("where, name, fault", FAULTS, ids=[name for _, name, _ in FAULTS])
def test_a_gateway_that_lies_is_found(
    world: tuple[Client, Gateways], where: Any, name: str, fault: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A gateway that takes everybody for a stranger, forgets whose key has won, or believes what it
    knew of people before a change, is found."""
    monkeypatch.setattr(where, name, fault)
    with pytest.raises((AssertionError, Flaky)):
        _run(world, "http-ci", push=True)
