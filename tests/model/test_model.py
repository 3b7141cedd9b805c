"""The scripts against the oracle, and scripts with a planted fault that it must find."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from flashgrab import scripts
from tests.lua.server import Client, valkey
from tests.model.machine import Scripts

STEPS_MAX = 12
HALVES = [pytest.param(half, marks=pytest.mark.xdist_group(f"model {half}")) for half in (1, 2)]
"""Two tests, for two processes of pytest: 2,000 sequences in CI, 200 at home."""
settings.register_profile(
    "model", max_examples=100, stateful_step_count=STEPS_MAX, deadline=None, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
settings.register_profile(
    "model-ci", settings.get_profile("model"), max_examples=1000, print_blob=True
)
settings.register_profile(
    "model-control", settings.get_profile("model"), phases=[Phase.generate], derandomize=True,
    max_examples=2000, stateful_step_count=30,
)  # fmt: skip

TEXTS = {script.name: script.text for script in scripts.ALL}


def load(redis: Client, texts: dict[str, str]) -> dict[str, str]:
    return {name: redis.call("SCRIPT", "LOAD", text) for name, text in texts.items()}


@pytest.fixture(scope="module")
def redis() -> Iterator[Client]:
    with valkey() as server:
        client = Client(server.path)
        yield client
        client.close()


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("half", HALVES)
def test_scripts_do_what_the_oracle_says(redis: Client, half: int) -> None:
    """In every sequence, each reply and the whole state of Redis are those of the oracle."""

    class Real(Scripts):
        pass

    Real.redis, Real.shas = redis, load(redis, TEXTS)
    profile = "model-ci" if os.environ.get("CI") == "true" else "model"
    run_state_machine_as_test(Real, settings=settings.get_profile(profile))
    assert Real.steps > settings.get_profile(profile).max_examples


FAULTS = {
    "no user limit": ("grab", ">= per_user then", ">= 1000 then"),
    "no device limit": ("grab", "of_device[device] >= per_device", "false"),
    "no stock limit": ("grab", "elseif left <= 0 then", "elseif left <= -9 then"),
    "no replay": ("grab", "  if known then", "  if false then"),
    "replay after a prefix": ("grab", "',' .. request_id .. ';'", "request_id .. ';'"),
    "ended one round early": ("grab", "and now_ms < last_ms then return", "and false then return"),
    "paused before ended": (
        "grab",
        "or (now_ms >= last_ms and -2)\n  or (status ~= 'PUBLISHED' and -3)",
        "or (status ~= 'PUBLISHED' and -3)\n  or (now_ms >= last_ms and -2)",
    ),
    "outbox bound one too wide": ("grab", "seq >= seq_max", "seq > seq_max"),
    "run not looked at": ("grab", "if c[3] ~= run then", "if false then"),
    "floor not looked at": ("grab", "if tonumber(c[4]) < floor then", "if false then"),
    "granted not counted": ("grab", "'granted', granted + grants", "'granted', granted + 1"),
    "outbox entry named by its first fact": ("grab", "seq .. '-0'", "first_seq .. '-0'"),
    "round never moves on": ("grab", "round = KEYS[6], number + 1", "round = KEYS[6], number"),
    "trimmed above the watermark": ("settle", "(watermark + 1) .. '-0'", "(watermark + 2) .. '-0'"),
    "watermark falls": ("settle", "if watermark > tonumber(c[2]) then", "if true then"),
    "a version applied twice": ("apply", "tonumber(c[2]) >= version", "tonumber(c[2]) > version"),
    "left set to the quota": ("apply", "'left', left[i]", "'left', ARGV[head + i - 1]"),
    "published twice": ("publish", "> 0 then return {1} end", "> 9 then return {1} end"),
    "returned twice": ("return", "if state == 'r' then return refuse(7) end", ""),
    "a return forgets the request id": ("return", "',r,' .. request_id", "',r,' .. serial"),
    "a return forgets the holder": ("return", "local marked = serial", "local marked = 0"),
    "a return frees no limit": ("return", "',r,' .. request_id", "',g,' .. request_id"),
    "a return frees no device": ("return", "[1] or 1) - 1", "[1] or 1)"),
    "a return into no stock": ("return", "'left', left + 1", "'left', left"),
    "a return is no change": ("return", "tonumber(c[5]) + 1", "tonumber(c[5])"),
    "a return from a stranger's run": ("return", "if c[3] ~= run then", "if false then"),
    "a return below the floor": ("return", "if seq < floor then", "if false then"),
    "confirmed in a rebuild": ("confirm", "if c[3] == 'rebuild' then", "if false then"),
    "a fence of another epoch": ("fence", "if c[1] ~= epoch then", "if false then"),
    "a rebuild forgets returns": ("rebuild", "quota - granted + returned", "quota - granted"),
    "a rebuild keeps the old outbox": ("rebuild", "holders, devices, outbox)", "holders, devices)"),
    "a rebuild of half the holders": ("rebuild", "holders_are ~= users", "false"),
    "confirmed behind": ("confirm", "if seq < seq_min then", "if seq < seq_min - 1 then"),
}  # fmt: skip


@pytest.mark.timeout(400)
@pytest.mark.parametrize("fault", FAULTS)
def test_oracle_finds_a_planted_fault(redis: Client, fault: str) -> None:
    """A script with this one fault does not pass: the state machine sees what it is for."""
    name, text, mutated = FAULTS[fault]
    assert TEXTS[name].count(text) == 1, f"{name}.lua no longer says {text!r}"

    class Faulty(Scripts):
        pass

    Faulty.redis = redis
    Faulty.shas = load(redis, TEXTS | {name: TEXTS[name].replace(text, mutated)})
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Faulty, settings=settings.get_profile("model-control"))
