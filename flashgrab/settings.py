"""Settings from the environment (contract §7), all validated together when a part starts."""

import ipaddress
import re
import sys
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from flashgrab.passes import PassKeys
from flashgrab.scripts import READS, SCHEMA
from flashgrab.setting_forms import (
    checked_redis_url,
    checked_segment_key,
    has_otel,
    is_loopback,
    listed,
)
from flashgrab.shop_tokens import ShopTokens

PREFIX = "FLASHGRAB_"

SEGMENT_KEY = "secret that users of segments are digested with; the same for gateways and centre"
KAFKA = "host:port,… of Kafka; the centre asks it in a rebuild how far it is"

PUBLIC_TOKEN_MIN = 32
"""Characters of ADMIN_TOKEN where more than this machine can try it."""

PROXY_V2 = "proxy-v2"

S = TypeVar("S", bound="PartSettings")

_ORIGIN = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")
"""As browsers send it: in lower case, without a path."""


class PartSettings(BaseSettings):
    """What every part needs."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", hide_input_in_errors=True)

    redis_url: str = Field(description="Redis or Valkey that holds the stock", repr=False)
    host: str = Field("127.0.0.1", description="address to listen on")
    metrics_port: int = Field(0, ge=0, le=65535, description="loopback port of /metrics; 0: free")
    metrics_host: str = Field(
        "127.0.0.1",
        description="address that /metrics listens on; another one only on a private network,"
        " as that of containers",
    )
    log_json: bool = Field(not sys.stderr.isatty(), description="logs as JSON lines")

    @field_validator("redis_url")
    @classmethod
    def _redis_url(cls, value: str) -> str:
        return checked_redis_url(value)


class TracedSettings(PartSettings):
    """Of the parts that a grab's trace goes through."""

    traces_url: str = Field(
        "",
        description="where spans are sent by OTLP over HTTP, as http://127.0.0.1:4318/v1/traces;"
        " needs the extra `otel`; empty: no traces",
        repr=False,
    )

    @field_validator("traces_url")
    @classmethod
    def _traces_url(cls, value: str) -> str:
        if value and not re.fullmatch(r"https?://[^\s/]+/\S*", value):
            raise ValueError("expected http://host:port/v1/traces")
        if value and not has_otel():
            raise ValueError("needs OpenTelemetry: .venv/bin/pip install -e '.[otel]'")
        return value


class GatewaySettings(TracedSettings):
    """The grab path. Knows no PostgreSQL address, on purpose."""

    port: int = Field(8000, ge=0, le=65535, description="public port of the gateway")
    metrics_port: int = Field(9100, ge=0, le=65535, description="loopback port of /metrics")
    pass_keys: str = Field(description="kid:key,… the first signs, all verify", repr=False)
    identity_key: str = Field("", description="HS256 secret of the shop's tokens", repr=False)
    identity_key_old: str = Field(
        "", description="HS256 secret that is taken besides, while the shop changes it", repr=False
    )
    identity_jwks: str = Field(
        "",
        description="file with the public keys of the shop's login (JWKS or PEM; RS256, EdDSA),"
        " read again when it changes",
    )
    identity_audience: str = Field("", description="aud that tokens must carry; empty: any")
    identity_issuer: str = Field("", description="iss that tokens must carry; empty: any")
    shop_tokens: str = Field(
        "", description="name:SHA-256,… of the tokens of the shop's own backend", repr=False
    )
    receipt_key: str = Field(
        "",
        description="kid:key,… (flashgrab receipt key); the first signs receipts, all are told",
        repr=False,
    )
    demo: bool = Field(False, description="POST /demo/identity; loopback only")
    segment_key: str = Field("", description=SEGMENT_KEY, repr=False)
    request_deadline_ms: int = Field(2000, ge=50, le=60_000, description="answer within, ms")
    batch_max: int = Field(1000, ge=1, le=1000, description="requests of one script call")
    queue_max: int = Field(20_000, ge=1, le=1_000_000, description="requests that may wait")
    shed_wait_ms: int = Field(
        100,
        ge=0,
        le=10_000,
        description="wait in the queue past which, while it lasts, new grabs are told BUSY, ms;"
        " 0: none is before the queue is full",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="exact origins, comma separated"
    )
    limiter_url: str = Field(
        "",
        description="Redis or Valkey that counts rate limits, another one than the stock's;"
        " empty: each process counts alone",
        repr=False,
    )
    limiter_wait_ms: int = Field(
        250, ge=10, le=5000, description="after which a request is counted without it, ms"
    )
    risk_rules: str = Field("", description="TOML file of the risk rules; empty: no risk score")
    captcha_verify_url: str = Field("", description="where a captcha's provider verifies answers")
    captcha_secret: str = Field("", description="what the provider knows us by", repr=False)
    captcha_site_key: str = Field("", description="public key of the captcha, told to buyers")
    captcha_timeout_ms: int = Field(2000, ge=50, le=30_000, description="provider's answer, ms")

    @field_validator("limiter_url")
    @classmethod
    def _limiter_url(cls, value: str) -> str:
        return checked_redis_url(value) if value else value

    connections_max: int = Field(
        20_000, ge=1, le=1_000_000, description="connections of one gateway process"
    )
    connections_per_address: int = Field(
        4000,
        ge=0,
        le=1_000_000,
        description="of these from one IPv4 address or IPv6 /64, listed proxies aside; 0: any",
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="networks of the proxies that are believed who a request is from"
    )
    proxies_say: Literal["x-forwarded-for", "forwarded", "proxy-v2"] = Field(
        "x-forwarded-for",
        description="how all of these say it: x-forwarded-for, forwarded or proxy-v2",
    )
    tls_cert: str = Field(
        "", description="PEM file of the certificates; `up` takes none; empty: no TLS"
    )
    tls_key: str = Field(
        "",
        validate_default=True,  # so that a certificate without a key is noticed
        description="PEM file of its key; both are read again on a change",
    )

    traces_every: int = Field(
        0,
        ge=0,
        le=1_000_000_000,
        description="one of so many grabs is traced where nobody asks for it; 0: only those that"
        " come with a sampled traceparent",
    )

    # Of one field, not of the model: that one is skipped where another field is wrong, and all
    # problems are to be listed at once.
    @field_validator("demo")
    @classmethod
    def _demo_stays_at_home(cls, value: bool, info: ValidationInfo) -> bool:
        wrong = []
        if value and not is_loopback(info.data.get("host", "")):
            wrong.append(f"mints identities for anyone: only with a loopback {PREFIX}HOST")
        if value and info.data.get("identity_key") == "":
            wrong.append(f"needs {PREFIX}IDENTITY_KEY")
        if wrong:
            raise ValueError("; ".join(wrong))
        return value

    @field_validator("cors_origins", "trusted_proxies", mode="before")
    @classmethod
    def _origins(cls, value: Any) -> Any:
        return listed(value)

    @field_validator("cors_origins")
    @classmethod
    def _exact_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError("expected origins as https://shop.example[:port], no path, no *")
        return value

    @field_validator("captcha_verify_url")
    @classmethod
    def _captcha_verify_url(cls, value: str) -> str:
        try:
            url = urlsplit(value)
            host, _ = url.hostname, url.port
        except ValueError:
            host = None
        if value and (not host or url.scheme not in ("https", "http")):
            raise ValueError("expected https://host/path")
        if value and url.scheme == "http" and not is_loopback(host or ""):
            raise ValueError("carries a secret: only https, except to loopback")
        return value

    @field_validator("captcha_secret")
    @classmethod
    def _captcha_secret(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("captcha_verify_url") and not value:
            raise ValueError(f"{PREFIX}CAPTCHA_VERIFY_URL needs it")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            try:
                ipaddress.ip_network(network)
            except ValueError:
                raise ValueError("expected addresses or networks as 10.0.0.0/8, fd00::/8") from None
        return value

    @field_validator("tls_key")
    @classmethod
    def _pair(cls, value: str, info: ValidationInfo) -> str:
        if bool(value) != bool(info.data.get("tls_cert")):
            raise ValueError(f"goes with {PREFIX}TLS_CERT: both or neither")
        return value

    @field_validator("pass_keys")
    @classmethod
    def _pass_keys(cls, value: str) -> str:
        PassKeys.parse(value)
        return value

    @field_validator("segment_key")
    @classmethod
    def _segment_key(cls, value: str) -> str:
        return checked_segment_key(value)

    @field_validator("shop_tokens")
    @classmethod
    def _shop_tokens(cls, value: str) -> str:
        ShopTokens.parse(value)
        return value

    @field_validator("receipt_key")
    @classmethod
    def _receipt_key(cls, value: str) -> str:
        if value:
            from flashgrab.receipts import ReceiptKeys  # no other part has a use for cryptography

            ReceiptKeys.parse(value)
        return value

    @field_validator("identity_key", "identity_key_old")
    @classmethod
    def _identity_key(cls, value: str) -> str:
        if value and len(value) < 32:
            raise ValueError("needs at least 32 characters")
        return value


class RelaySettings(TracedSettings):
    """Outbox to Kafka."""

    metrics_port: int = Field(9101, ge=0, le=65535, description="loopback port of /metrics")
    kafka_bootstrap: str = Field(description=KAFKA)
    relay_name: str = Field(
        "",
        pattern=r"^[A-Za-z0-9._-]{0,64}$",
        description="name that no other running relay has: one that died under it is not waited"
        " for by its successor",
    )


class WorkerSettings(TracedSettings):
    """Kafka to ledger, watermark, live audit."""

    metrics_port: int = Field(9102, ge=0, le=65535, description="loopback port of /metrics")
    kafka_bootstrap: str = Field(description=KAFKA)
    kafka_session_timeout_ms: int = Field(
        6000, ge=1000, le=300_000, description="silence after which Kafka gives a worker up, ms"
    )
    worker_name: str = Field(
        "",
        pattern=r"^[A-Za-z0-9._-]{0,64}$",
        description="name that no other running worker has: one that died under it is given up"
        " by Kafka as soon as its successor starts",
    )
    postgres_url: str = Field(description="the ledger", repr=False)


class CentreSettings(PartSettings):
    """Management."""

    metrics_port: int = Field(9103, ge=0, le=65535, description="loopback port of /metrics")
    kafka_bootstrap: str = Field("", description=KAFKA)
    centre_port: int = Field(8001, ge=0, le=65535, description="port of the centre")
    postgres_url: str = Field(description="the ledger", repr=False)
    centre_url: str = Field(
        "",
        pattern=r"^(https?://[A-Za-z0-9.:\[\]-]+/?)?$",
        description="address of the centre as its staff types it; with https:// (TLS is ended in"
        " front of it) cookies are Secure",
    )
    admin_token: str = Field(
        min_length=16,
        description="Bearer token of management, of the root; at least"
        f" {PUBLIC_TOKEN_MIN} characters where others reach {PREFIX}HOST",
        repr=False,
    )
    segment_key: str = Field("", description=SEGMENT_KEY, repr=False)
    data: str = Field(
        "", description="data folder of `flashgrab up`; its run.json says where the parts are"
    )
    metrics_urls: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="addresses of /metrics of all parts, comma separated, for the console; empty:"
        " those of run.json",
    )
    campaign_schema: str = Field(
        SCHEMA, description="form of a new campaign's keys in Redis (docs/upgrades.md)"
    )

    @field_validator("metrics_urls", mode="before")
    @classmethod
    def _urls(cls, value: Any) -> Any:
        return listed(value)

    @field_validator("metrics_urls")
    @classmethod
    def _http_urls(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            if not re.fullmatch(r"http://[A-Za-z0-9.:\[\]_-]+(/metrics)?", url):
                raise ValueError("expected addresses as http://host:9100/metrics")
        return value

    @field_validator("admin_token")
    @classmethod
    def _long_where_others_reach(cls, value: str, info: ValidationInfo) -> str:
        if len(value) < PUBLIC_TOKEN_MIN and not is_loopback(info.data.get("host", "")):
            raise ValueError(
                f"needs at least {PUBLIC_TOKEN_MIN} characters where others reach {PREFIX}HOST"
            )
        return value

    @property
    def behind_tls(self) -> bool:
        """Whether staff comes by https."""
        return self.centre_url.startswith("https://")

    @property
    def signs_in(self) -> bool:
        """Whether pages may be signed in to: no cookie of theirs crosses a network in the clear.

        A loopback address that staff types is one, too: so a centre in a container is reached,
        which itself listens where the other containers are."""
        if self.behind_tls or is_loopback(self.host):
            return True
        return bool(self.centre_url) and is_loopback(urlsplit(self.centre_url).hostname or "")

    @field_validator("segment_key")
    @classmethod
    def _segment_key(cls, value: str) -> str:
        return checked_segment_key(value)

    @field_validator("campaign_schema")
    @classmethod
    def _known_schema(cls, value: str) -> str:
        if value not in READS:
            raise ValueError(f"this release knows {', '.join(READS)}")
        return value


def load(kind: type[S]) -> S:
    """Read and validate; on problems list them all on stderr, one a line, and exit 2."""
    try:
        return kind()
    except ValidationError as error:
        print("settings are wrong (all of them are in docs/settings.md):", file=sys.stderr)
        for line in problems(error):
            print(f"  {line}", file=sys.stderr)
        raise SystemExit(2) from None


def problems(error: ValidationError) -> list[str]:
    """One line a problem: the variable, what is wrong, never the value."""
    lines = []
    for problem in error.errors():
        name = "_".join(str(part) for part in problem["loc"]).upper()
        message = problem["msg"].removeprefix("Value error, ")
        lines.append(f"{PREFIX}{name}: {message}" if name else message)
    return lines
