"""`flashgrab config show`: every setting, masked, and where it came from."""

import json
from pathlib import Path

import pytest

from flashgrab.cli import config
from flashgrab.cli.stack import environments
from flashgrab.cli.stack.environments import MASK, masked, redacted, secrets_of
from flashgrab.passes import Pass, PassKeys
from tests.e2e.running import Stack

KEY = "k" * 40


def of(found: list[config.Setting]) -> dict[str, tuple[str, str]]:
    """Value and origin by name; of those that differ between parts the first row."""
    return {setting.name: (setting.value, setting.origin) for setting in reversed(found)}


def test_every_setting_of_every_part_is_there() -> None:
    """Those of docs/settings.md, which a test holds against the code."""
    shown = {setting.name for setting in config.read(Path("/nowhere"), {})}
    fields = {f"FLASHGRAB_{field.upper()}" for p in environments.PARTS.values()
              for field in p.model_fields}  # fmt: skip
    assert shown == {*fields, "FLASHGRAB_DATA"}


def test_origins_where_nothing_runs(tmp_path: Path) -> None:
    """The environment before the folder's secrets, else the default; what is missing is said."""
    (tmp_path / "secrets.env").write_text(
        f"FLASHGRAB_ADMIN_TOKEN={KEY}\nFLASHGRAB_PASS_KEYS=k1:{KEY}\n"
    )
    environment = {"FLASHGRAB_BATCH_MAX": "77", "FLASHGRAB_PASS_KEYS": f"k9:{KEY}"}
    found = of(config.read(tmp_path, environment))
    assert found["FLASHGRAB_BATCH_MAX"] == ("77", "environment")
    assert found["FLASHGRAB_QUEUE_MAX"] == ("20000", "default")
    assert found["FLASHGRAB_PASS_KEYS"] == (MASK, "environment")
    assert found["FLASHGRAB_ADMIN_TOKEN"] == (MASK, "secrets.env")
    assert found["FLASHGRAB_POSTGRES_URL"] == ("", "not set")
    assert found["FLASHGRAB_DATA"] == (str(tmp_path), "--data")


@pytest.mark.parametrize(
    "name, value, expected",
    [
        ("FLASHGRAB_REDIS_URL", "redis://:pw12345@127.0.0.1:1/0", f"redis://:{MASK}@127.0.0.1:1/0"),
        ("FLASHGRAB_POSTGRES_URL", "postgresql://u@h/d", "postgresql://u@h/d"),
        (
            "FLASHGRAB_TRACES_URL",
            "https://me:pw12345@127.0.0.1:4318/v1/traces",
            f"https://me:{MASK}@127.0.0.1:4318/v1/traces",
        ),
        ("FLASHGRAB_PASS_KEYS", "k1:abc", MASK),
        ("FLASHGRAB_IDENTITY_KEY", "", ""),
        ("FLASHGRAB_HOST", "127.0.0.1", "127.0.0.1"),
        ("FLASHGRAB_POSTGRES_PASSWORD", "abc", MASK),
    ],
)
def test_what_is_masked(name: str, value: str, expected: str) -> None:
    """Secrets as a whole, addresses without their password, nothing else."""
    assert masked(name, value) == expected


def test_secrets_are_taken_out_of_any_text() -> None:
    """By their values, also parts of lists and addresses; and tokens by their form."""
    secrets = secrets_of(
        [
            {
                "FLASHGRAB_PASS_KEYS": "k1:first-key,k2:other-key",
                "HOME": "/root/of-it",
                "FLASHGRAB_REDIS_URL": "redis://:pass-word@h/0",
            }
        ]
    )
    text = "first-key pass-word /root/of-it Bearer abc.def-_ fgl_0123456789 eyJh.eyJz.sig"
    assert redacted(text, secrets) == f"{MASK} {MASK} /root/of-it Bearer {MASK} {MASK} {MASK}"
    assert "other-key" in secrets


def test_a_password_is_taken_out_in_every_form_it_has() -> None:
    """As the address has it, as it is typed, and as a log in JSON quotes it."""
    secrets = secrets_of([{"FLASHGRAB_POSTGRES_URL": "postgresql://u:p%40ss%22word@h/d"}])
    for form in ("p%40ss%22word", 'p@ss"word', json.dumps('p@ss"word')[1:-1]):
        assert redacted(f"for {form}!", secrets) == f"for {MASK}!"


@pytest.mark.parametrize("device", ["", "d-1"])
def test_a_pass_is_taken_out_wherever_it_stands(device: str) -> None:
    """It lets somebody grab, also without the word Bearer before it."""
    signed = PassKeys.parse(f"k1:{KEY}").sign(Pass("spring-618", "ann@shop", device, 1_800_000))
    assert redacted(f'pass="{signed}" of', set()) == f'pass="{MASK}" of'
    assert redacted("GET /v1/campaigns v1.2", set()) == "GET /v1/campaigns v1.2"


@pytest.mark.xdist_group("stack")
def test_a_running_stack_is_shown_as_its_processes_have_it(running_stack: Stack) -> None:
    """What `up` chose, what it was told by flags, its secrets' file, its environment; no secret."""
    done = running_stack.command("config", "show", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["settings"]
    found = {row["name"]: row for row in rows}
    port = running_stack.gateway_url.rpartition(":")[2]
    assert found["FLASHGRAB_PORT"] == {
        "name": "FLASHGRAB_PORT", "value": port, "origin": "--port", "parts": ["gateway"],
    }  # fmt: skip
    assert found["FLASHGRAB_DEMO"]["origin"] == "--demo"
    assert found["FLASHGRAB_PASS_KEYS"] | {"value": ""} == {
        "name": "FLASHGRAB_PASS_KEYS", "value": "", "origin": "secrets.env", "parts": ["gateway"],
    }  # fmt: skip
    assert found["FLASHGRAB_KAFKA_BOOTSTRAP"]["origin"] == "run.json"
    assert found["FLASHGRAB_WORKER_NAME"]["origin"] == "up"
    assert found["FLASHGRAB_QUEUE_MAX"]["origin"] == "default"
    assert found["FLASHGRAB_POSTGRES_URL"]["parts"] == ["worker", "centre"]
    metrics = {row["parts"][0] for row in rows if row["name"] == "FLASHGRAB_METRICS_PORT"}
    assert metrics == {"gateway", "relay", "worker", "centre"}
    plain = running_stack.command("config", "show", "--origin").stdout
    for secret in secrets_of([running_stack.secrets()]):
        assert secret not in done.stdout + plain
