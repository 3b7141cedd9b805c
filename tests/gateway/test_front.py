"""Before HTTP: TLS with a pair that changes, and the PROXY header; then the lane as ever."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from flashgrab.alarms import Alarm, Alarms
from gateway.front import fronted
from gateway.lane import Lane
from gateway.tls import Certificate
from tests.gateway.proxying import proxy_header, write_pair
from tests.gateway.serving import Served, serving, until
from tests.gateway.test_doors import LIVEZ, refused
from tests.lua.server import Valkey

TRUSTED: dict[str, Any] = {"trusted_proxies": ("127.0.0.1",), "proxies_say": "proxy-v2"}


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """The loop of production."""
    return "asyncio", {"use_uvloop": True}


class Counted(Lane):
    """Notes the address of each grab that the lane decides, and of each that the parser reads."""

    lane: list[str]
    parsed: list[str]

    def _decide(self, *args: Any) -> None:
        Counted.lane.append(self.address)
        super()._decide(*args)

    def on_headers_complete(self) -> None:
        Counted.parsed.append(self.address)
        super().on_headers_complete()


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    Counted.lane, Counted.parsed = [], []


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_pair(tmp_path_factory.mktemp("tls"), "first")


@asynccontextmanager
async def fronting(
    redis: Valkey, pair: tuple[Path, Path] | None, *, header: bool = False
) -> AsyncIterator[Served]:
    """A gateway with TLS, the PROXY header, or both."""
    certificate = Certificate(str(pair[0]), str(pair[1]), Alarms()) if pair else None
    protocol = fronted(Counted, certificate, header=header)
    async with serving(redis.url, protocol=protocol, **(TRUSTED if header else {})) as served:
        yield served


def trusting(cert: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(cert))


async def say(
    served: Served, *parts: bytes, tls: ssl.SSLContext | None = None, ends: bytes = b"\r\n\r\n"
) -> bytes:
    """What comes back, up to the end of a head or of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port, ssl=tls)
    try:
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0)
        return await asyncio.wait_for(reader.readuntil(ends), 10)
    except asyncio.IncompleteReadError as error:
        return error.partial
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


def grab_of(served: Served, campaign_id: str, user: str) -> bytes:
    token = served.token(campaign_id, user)
    head = f"POST /v1/campaigns/{campaign_id}/grabs HTTP/1.1\r\nHost: a\r\n"
    return f"{head}Authorization: Bearer {token}\r\nIdempotency-Key: k\r\n\r\n".encode()


# -- TLS -------------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_the_lane_works_over_tls(
    redis_server: Valkey, pair: tuple[Path, Path], version: ssl.TLSVersion
) -> None:
    """A grab is granted by the lane, also one that comes with the end of the handshake."""
    async with fronting(redis_server, pair) as served:
        campaign_id = await served.campaign()
        tls = trusting(pair[0])
        tls.minimum_version = tls.maximum_version = version
        for user in ("u1", "u2"):
            answer = await say(served, grab_of(served, campaign_id, user), tls=tls)
            assert answer.startswith(b"HTTP/1.1 201 ")
        assert Counted.lane == ["127.0.0.1"] * 2
        assert Counted.parsed == []
        assert (await say(served, LIVEZ, tls=tls)).startswith(b"HTTP/1.1 200 ")
        await until("all are gone", lambda: served.gateway.doors.inside == 0)


@pytest.mark.anyio
async def test_no_old_tls_and_no_plain_text(redis_server: Valkey, pair: tuple[Path, Path]) -> None:
    """TLS 1.1 gets no connection, plain HTTP no answer; both are counted, and leave no place."""
    async with fronting(redis_server, pair) as served:
        old = trusting(pair[0])
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.minimum_version = ssl.TLSVersion.TLSv1_1
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await say(served, LIVEZ, tls=old)
        assert b"HTTP" not in await say(served, LIVEZ)
        await until("both are counted", lambda: refused(served, "tls") == 2)
        assert served.gateway.doors.inside == 0


@pytest.mark.anyio
async def test_a_handshake_has_its_time(
    redis_server: Valkey, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who says nothing, or half a hello, is closed; its place was held and is free again."""
    monkeypatch.setattr("gateway.front.FRONT_S", 0.3)
    async with fronting(redis_server, pair) as served:
        said = asyncio.gather(say(served), say(served, b"\x16\x03\x01\x02\x00\x01"))
        await until("both are in", lambda: served.gateway.doors.inside == 2)
        assert tuple(await said) == (b"", b"")
        await until("both are gone", lambda: served.gateway.doors.inside == 0)
        assert refused(served, "tls") == 2


@pytest.mark.anyio
async def test_a_new_pair_is_served_without_a_restart(
    redis_server: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New connections get the new certificate, old ones stay."""
    cert, key = write_pair(tmp_path, "first")
    alarms = Alarms()
    certificate = Certificate(str(cert), str(key), alarms)
    async with serving(
        redis_server.url, protocol=fronted(Lane, certificate, header=False)
    ) as served:
        old = trusting(cert)
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port, ssl=old)
        write_pair(tmp_path, "second")
        await certificate.follow()
        assert (await say(served, LIVEZ, tls=trusting(cert))).startswith(b"HTTP/1.1 200 ")
        with pytest.raises(ssl.SSLCertVerificationError):
            await say(served, LIVEZ, tls=old)
        writer.write(LIVEZ)
        assert (await reader.read(15)).startswith(b"HTTP/1.1 200 ")
        writer.transport.abort()
    assert not alarms.is_on(Alarm.TLS_PAIR_BROKEN)


async def _break_by_text(folder: Path) -> None:
    (folder / "cert.pem").write_text("no certificate")


async def _break_by_halves(folder: Path) -> None:
    kept = (folder / "key.pem").read_bytes()
    write_pair(folder, "other")
    (folder / "key.pem").write_bytes(kept)


async def _break_by_absence(folder: Path) -> None:
    (folder / "key.pem").unlink()


async def _break_by_password(folder: Path) -> None:
    write_pair(folder, "locked", b"s3cr3t")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "break_", [_break_by_text, _break_by_halves, _break_by_absence, _break_by_password]
)
async def test_a_broken_pair_is_an_alarm(tmp_path: Path, break_: Any) -> None:
    """The old context stays; at the second look the alarm begins, with a whole pair it ends."""
    cert, key = write_pair(tmp_path, "first")
    alarms = Alarms()
    certificate = Certificate(str(cert), str(key), alarms)
    context = certificate.context
    await break_(tmp_path)
    with capture_logs() as logs:
        await certificate.follow()
        assert not alarms.is_on(Alarm.TLS_PAIR_BROKEN)
        await certificate.follow()
        assert alarms.is_on(Alarm.TLS_PAIR_BROKEN)
        assert certificate.context is context
        write_pair(tmp_path, "third")
        await certificate.follow()
    assert not alarms.is_on(Alarm.TLS_PAIR_BROKEN)
    assert certificate.context is not context
    assert [line["event"] for line in logs] == ["alarm_begins", "alarm_ends"]
    assert "s3cr3t" not in str(logs)
    again = certificate.context
    await certificate.follow()
    assert certificate.context is again


# -- the PROXY header ------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("encrypted", [False, True])
async def test_the_source_is_the_address(
    redis_server: Valkey, pair: tuple[Path, Path], encrypted: bool
) -> None:
    """Of what the lane and of what the parser reads; whether header and the rest come in one piece
    or in many, and before a handshake."""
    async with fronting(redis_server, pair if encrypted else None, header=True) as served:
        campaign_id = await served.campaign()
        header = proxy_header("2001:db8::7")
        pieces = [header[n : n + 1] for n in range(len(header))]
        for user, parts in (("u1", [header]), ("u2", pieces)):
            for request in (grab_of(served, campaign_id, user), LIVEZ):
                if encrypted:
                    answer = await asyncio.to_thread(_over_tls, served, parts, request, pair[0])
                else:
                    joined = b"".join(parts) + request
                    answer = await say(served, *(parts if len(parts) > 1 else []), request
                                       if len(parts) > 1 else joined)  # fmt: skip
                assert answer.startswith((b"HTTP/1.1 201 ", b"HTTP/1.1 200 "))
        assert Counted.lane == ["2001:db8::7"] * 2
        assert Counted.parsed == ["2001:db8::7"] * 2
        await until("all are gone", lambda: served.gateway.doors.inside == 0)


def _over_tls(served: Served, parts: list[bytes], request: bytes, cert: Path) -> bytes:
    """The hello goes out in one piece with the last of the header."""
    import socket

    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting(cert).wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    answer = b""
    with socket.create_connection(("127.0.0.1", served.port), 10) as connection:
        for part in parts[:-1]:
            connection.sendall(part)
        first, sent = parts[-1], False
        while b"\r\n\r\n" not in answer:
            try:
                if sent:
                    answer += tls.read(4096)
                else:
                    tls.do_handshake()
                    tls.write(request)
                    sent = True
            except ssl.SSLWantReadError:
                if more := first + outgoing.read():
                    connection.sendall(more)
                    first = b""
                incoming.write(connection.recv(65536))
        return answer


@pytest.mark.anyio
async def test_a_proxy_header_from_listed_peers_only(
    redis_server: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listed peer has to send one; from anybody else it is junk."""
    async with fronting(redis_server, None, header=True) as served:
        assert await say(served, LIVEZ) == b""
        assert refused(served, "proxy") == 1
        monkeypatch.setattr(served.gateway.doors.proxies, "trusts", {"127.0.0.1": False}.get)
        assert (await say(served, LIVEZ)).startswith(b"HTTP/1.1 200 ")
        answer = await say(served, proxy_header("192.0.2.7") + LIVEZ)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert "192.0.2.7" not in Counted.parsed


@pytest.mark.anyio
async def test_a_header_has_its_time(redis_server: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a header is closed, and so is silence."""
    monkeypatch.setattr("gateway.front.FRONT_S", 0.2)
    async with fronting(redis_server, None, header=True) as served:
        before = time.monotonic()
        assert await say(served, proxy_header("192.0.2.7")[:20]) == b""
        assert await say(served) == b""
        assert time.monotonic() - before >= 0.4
        assert served.gateway.doors.inside == 0
