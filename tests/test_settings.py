"""Settings: what is taken, that all problems are listed at once, and that the table is true."""

from pathlib import Path
from typing import Any

import pytest
from annotated_types import Ge, Le, MinLen
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from flashgrab.settings import (
    PREFIX,
    CentreSettings,
    GatewaySettings,
    PartSettings,
    RelaySettings,
    WorkerSettings,
    load,
    problems,
)

PARTS: dict[str, type[PartSettings]] = {
    "gateway": GatewaySettings,
    "relay": RelaySettings,
    "worker": WorkerSettings,
    "centre": CentreSettings,
}
TABLE = Path(__file__).parent.parent / "docs" / "settings.md"
SECRETS = {
    "redis_url", "pass_keys", "identity_key", "postgres_url", "admin_token", "limiter_url",
    "captcha_secret", "segment_key",
    "identity_key_old", "shop_tokens", "receipt_key", "traces_url",
}  # fmt: skip
KEY = "k" * 40
NEEDED = {"redis_url": "redis://127.0.0.1:6379/0", "pass_keys": f"k1:{KEY}"}


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting comes from the environment that the tests run in."""
    import os

    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


def gateway(**changes: Any) -> GatewaySettings:
    return GatewaySettings(**{**NEEDED, **changes})


def wrong(**changes: Any) -> list[str]:
    """The lines that a start with these values prints."""
    with pytest.raises(ValidationError) as caught:
        gateway(**changes)
    return problems(caught.value)


# -- the table -----------------------------------------------------------------------------------


def _default(name: str, field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if name == "log_json":
        return "yes, unless stderr is a terminal"
    value = field.get_default()
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"`{value}`" if value not in ("", ()) else "empty"


def _range(field: FieldInfo) -> str:
    low = next((str(m.ge) for m in field.metadata if isinstance(m, Ge)), "")
    high = next((str(m.le) for m in field.metadata if isinstance(m, Le)), "")
    short = next((m.min_length for m in field.metadata if isinstance(m, MinLen)), 0)
    if low and high:
        return f" ({low} to {high})"
    return f" (at least {short} characters)" if short else ""


def _row(name: str) -> str:
    fields = {part: s.model_fields[name] for part, s in PARTS.items() if name in s.model_fields}
    defaults = {part: _default(name, field) for part, field in fields.items()}
    field = next(iter(fields.values()))
    secret = "" if field.repr else " Secret."
    default = (
        next(iter(defaults.values()))
        if len(set(defaults.values())) == 1
        else ", ".join(f"{value} {part}" for part, value in defaults.items())
    )
    parts = "all" if set(fields) == set(PARTS) else ", ".join(fields)
    meaning = f"{field.description}{_range(field)}.{secret}"
    return f"| `{PREFIX}{name.upper()}` | {parts} | {default} | {meaning} |"


HEAD = """\
# Settings

Every part reads its settings from the environment when it starts, and checks all of them together:\
 if some are wrong, it lists every problem and exits with status 2. `flashgrab up` sets them for\
 the parts that it starts. Secrets are printed nowhere.

A test holds this table against `flashgrab/settings.py`.

| variable | parts | default | meaning |
|---|---|---|---|
"""


def document() -> str:
    """docs/settings.md as flashgrab/settings.py has it. To write it:
    `.venv/bin/python -c "from tests.test_settings import *; TABLE.write_text(document())"`."""
    names = list(dict.fromkeys(name for s in PARTS.values() for name in s.model_fields))
    return HEAD + "".join(_row(name) + "\n" for name in names)


def test_the_table_is_true() -> None:
    """docs/settings.md is what the code says, setting by setting."""
    assert TABLE.read_text() == document()


def test_every_setting_is_described() -> None:
    """No setting without a sentence; secrets, and only they, are kept out of prints."""
    for settings in PARTS.values():
        for name, field in settings.model_fields.items():
            assert field.description
            assert field.repr == (name not in SECRETS)


def test_gateway_and_relay_know_no_ledger() -> None:
    """The grab path takes no address of PostgreSQL, so that it cannot come to depend on it."""
    for part in ("gateway", "relay"):
        assert "postgres_url" not in PARTS[part].model_fields


# -- reading ---------------------------------------------------------------------------------------


def test_values_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names with the prefix; lists by commas; other parts' settings are passed over."""
    values = {
        "REDIS_URL": "redis://:pw@127.0.0.1:7000/2",
        "PASS_KEYS": f"k2:{KEY},k1:{KEY}",
        "CORS_ORIGINS": "https://a.example, http://b.example:8080 ,",
        "BATCH_MAX": "64",
        "POSTGRES_URL": "postgresql://elsewhere",
    }
    for name, value in values.items():
        monkeypatch.setenv(PREFIX + name, value)
    settings = load(GatewaySettings)
    assert settings.redis_url == values["REDIS_URL"]
    assert settings.cors_origins == ("https://a.example", "http://b.example:8080")
    assert (settings.batch_max, settings.port, settings.metrics_port) == (64, 8000, 9100)
    assert not hasattr(settings, "postgres_url")


def test_all_problems_are_listed_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line a variable, also where one problem hangs on two settings; exit 2; no values."""
    values = {"PASS_KEYS": "k1:short-secret", "DEMO": "1", "HOST": "0.0.0.0", "QUEUE_MAX": "0"}
    for name, value in values.items():
        monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(SystemExit) as caught:
        load(GatewaySettings)
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    head, *lines = printed.err.splitlines()
    assert "docs/settings.md" in head
    names = [line.strip().split(":")[0] for line in lines]
    assert names == [PREFIX + name for name in ("REDIS_URL", "PASS_KEYS", "DEMO", "QUEUE_MAX")]
    assert "loopback" in lines[2]
    assert f"{PREFIX}IDENTITY_KEY" in lines[2]
    assert "short-secret" not in printed.err


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:6379",
        "http://127.0.0.1",
        "redis://",
        "redis://:s3cr3t@",
        "redis://:s3cr3t@host:port",
        "redis://:s3cr3t@host:0",
        "redis://:s3cr3t@host:70000",
        "redis://:s3cr3t@[::1",
        "unix://",
    ],
)
def test_a_redis_url_has_its_form(url: str) -> None:
    """An address that can't be one is refused at the start, without repeating its password."""
    (line,) = wrong(redis_url=url)
    assert line.startswith(f"{PREFIX}REDIS_URL: expected redis://")
    assert "s3cr3t" not in line


@pytest.mark.parametrize(
    "url", ["redis://h", "rediss://u:p@h:1/3", "redis://[::1]:7", "unix:///a/b"]
)
def test_redis_urls_that_are_taken(url: str) -> None:
    """TCP, TLS, IPv6 and unix sockets."""
    assert gateway(redis_url=url).redis_url == url


@pytest.mark.parametrize(
    "keys",
    ["", KEY, f":{KEY}", "k1:short", f"k1:{KEY},k1:{KEY}", f"k1:{KEY},", f"k-1:{KEY}", "k1"],
)
def test_pass_keys_have_their_form(keys: str) -> None:
    """kid:key pairs, long enough, each kid once; the line never shows a key."""
    (line,) = wrong(pass_keys=keys)
    assert line.startswith(f"{PREFIX}PASS_KEYS: ")
    assert KEY not in line


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "https://*.example",
        "shop.example",
        "https://shop.example/",
        "https://Shop.example",
        "null",
    ],
)
def test_origins_are_exact(origin: str) -> None:
    """No wildcard, no path, as browsers send it: anything else would allow all, or nobody."""
    (line,) = wrong(cors_origins=f"https://good.example,{origin}")
    assert line.startswith(f"{PREFIX}CORS_ORIGINS: ")


@pytest.mark.parametrize(
    "changes, names",
    [
        ({"request_deadline_ms": 49}, ["REQUEST_DEADLINE_MS"]),
        ({"request_deadline_ms": 60_001}, ["REQUEST_DEADLINE_MS"]),
        ({"batch_max": 0}, ["BATCH_MAX"]),
        ({"batch_max": 1001}, ["BATCH_MAX"]),
        (
            {"queue_max": 0, "port": 65536, "metrics_port": -1},
            ["METRICS_PORT", "PORT", "QUEUE_MAX"],
        ),
        ({"identity_key": "x" * 31}, ["IDENTITY_KEY"]),
        ({"identity_key_old": "x" * 31}, ["IDENTITY_KEY_OLD"]),
        ({"shop_tokens": "till"}, ["SHOP_TOKENS"]),
        ({"receipt_key": "r1:short"}, ["RECEIPT_KEY"]),
        ({"segment_key": "x" * 31}, ["SEGMENT_KEY"]),
    ],
)
def test_bounds(changes: dict[str, Any], names: list[str]) -> None:
    """Every number has its bounds, a secret its length."""
    assert sorted(line.split(":")[0] for line in wrong(**changes)) == [PREFIX + n for n in names]


@pytest.mark.parametrize(
    "changes, name",
    [
        ({"trusted_proxies": "10.0.0.1/8"}, "TRUSTED_PROXIES"),
        ({"trusted_proxies": "10.0.0.0/8,proxy.example"}, "TRUSTED_PROXIES"),
        ({"proxies_say": "x-real-ip"}, "PROXIES_SAY"),
        ({"tls_cert": "cert.pem"}, "TLS_KEY"),
        ({"tls_key": "key.pem"}, "TLS_KEY"),
    ],
)
def test_what_stands_before_http(changes: dict[str, Any], name: str) -> None:
    """Networks, one of the known ways to name a buyer, a whole pair of files."""
    (line,) = wrong(**changes)
    assert line.startswith(f"{PREFIX}{name}: ")


def test_proxies_are_networks() -> None:
    """Addresses and networks of both families, by commas."""
    listed = gateway(trusted_proxies="10.0.0.0/8, 192.0.2.1 ,fd00::/8,").trusted_proxies
    assert listed == ("10.0.0.0/8", "192.0.2.1", "fd00::/8")


@pytest.mark.parametrize(
    "host, ok",
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example.com", False),
        ("", False),
    ],
)
def test_the_demo_stays_at_home(host: str, ok: bool) -> None:
    """With --demo anyone may be anyone: only where nobody else can reach it."""
    if ok:
        assert gateway(demo=True, identity_key=KEY, host=host).demo
    else:
        (line,) = wrong(demo=True, identity_key=KEY, host=host)
        assert line.startswith(f"{PREFIX}DEMO: ")
    assert gateway(demo=False, host=host).host == host


def test_secrets_are_not_printed() -> None:
    """Neither repr nor str of settings shows a secret, nor does a traceback that holds one."""
    settings = gateway(redis_url="redis://:s3cr3t@h", identity_key="s3cr3t" * 6)
    assert "s3cr3t" not in repr(settings) + str(settings)
    assert KEY not in repr(settings) + str(settings)
    with pytest.raises(ValidationError) as caught:
        gateway(pass_keys="k1:s3cr3t", identity_key="s3cr3t", redis_url="s3cr3t")
    assert "s3cr3t" not in str(caught.value)


def test_traces_need_an_address_and_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no address is refused; one is, too, where the packages of the extra are missing."""
    expected = "expected http://host:port/v1/traces"
    for value in ("collector:4318", "http://", "ftp://c/v1/traces", "http://c"):
        assert wrong(traces_url=value) == [f"{PREFIX}TRACES_URL: {expected}"]
    url = "http://127.0.0.1:4318/v1/traces"
    assert gateway(traces_url=url).traces_url == url
    monkeypatch.setattr("flashgrab.settings.has_otel", lambda: False)
    assert "pip install -e '.[otel]'" in wrong(traces_url=url)[0]
    assert gateway(traces_url="").traces_url == ""
