"""Cases: bodies, how long a connection lives, heads past their bounds, other origins."""

from tests.gateway.asking import ORIGIN
from tests.gateway.lane.case import Case, Make, always, sent, with_headers
from tests.gateway.lane.plain import BROWSER, HOST, changed, of_a_grab, raw, without

PATH = "/v1/campaigns/open/grabs"


def _with_body(length: str, body: bytes, *more: tuple[str, str]) -> Make:
    headers = [*without("Content-Length"), ("Content-Length", length), *more]
    return lambda user: raw(headers=[*headers, *of_a_grab(user)], body=body)


def _chunked(body: bytes, coding: str = "chunked", *more: tuple[str, str]) -> Make:
    headers = [*without("Content-Length"), ("Transfer-Encoding", coding), *more]
    return lambda user: raw(headers=[*headers, *of_a_grab(user)], body=body)


def _connection(value: str, *more: tuple[str, str], version: str = "HTTP/1.1") -> Make:
    headers = [*without("Connection"), ("Connection", value), *more]
    return lambda user: raw(headers=[*headers, *of_a_grab(user)], version=version)


LENGTHS = [
    Case("length 00", _with_body("00", b""), (201,)),
    Case("length +0", _with_body("+0", b"")),
    Case("length -0", _with_body("-0", b"")),
    Case("length -1", _with_body("-1", b"")),
    Case("length empty", _with_body("", b"")),
    Case("length 0x0", _with_body("0x0", b"")),
    Case("length in letters", _with_body("none", b"")),
    Case("length 0 0", _with_body("0 0", b"")),
    Case("length 0;", _with_body("0;", b"")),
    Case("length 1e1", _with_body("1e1", b"")),
    Case("length of 30 digits", _with_body("9" * 30, b"x")),
    Case("length of 2 to the 64", _with_body(str(2**64), b"x")),
    Case("length 0 and a body", _with_body("0", b"hello")),
    Case("length 5", _with_body("5", b"hello"), (400,)),
    Case("length 5 and more", _with_body("5", b"hello there")),
    Case("length 5 of blank", _with_body("5", b"\r\n\r\n\n"), (400,)),
    Case("length 5, three there", _with_body("5", b"hel")),
    Case("length 5, none there", _with_body("5", b"")),
    Case("length 4096", _with_body("4096", b"x" * 4096), (400,)),
    Case("length 4097", _with_body("4097", b"x" * 4097), (413,)),
    Case("length 5000", _with_body("5000", b"x" * 5000), (413,)),
    Case("length 5000, none there", _with_body("5000", b"")),
    Case("length 5000, some there", _with_body("5000", b"x" * 100)),
    Case("length 100000", _with_body("100000", b"x" * 100_000)),
    Case("a body without a length", lambda u: raw(
        headers=[*without("Content-Length"), *of_a_grab(u)], body=b"hello")),
    Case("a body that is a request",
         _with_body("18", b"GET / HTTP/1.1\r\n\r\n"), (400,)),
]  # fmt: skip
CHUNKS = [
    Case("chunked, empty", _chunked(b"0\r\n\r\n"), (201,)),
    Case("chunked, 5", _chunked(b"5\r\nhello\r\n0\r\n\r\n"), (400,)),
    Case("chunked, 5000", _chunked(b"1388\r\n" + b"x" * 5000 + b"\r\n0\r\n\r\n"), (413,)),
    Case("chunked, many small", _chunked(b"1\r\nx\r\n" * 50 + b"0\r\n\r\n"), (400,)),
    Case("chunked, with an extension", _chunked(b"0;a=b\r\n\r\n")),
    Case("chunked, with a trailer", _chunked(b"0\r\nX: y\r\n\r\n")),
    Case("chunked, not ended", _chunked(b"5\r\nhello\r\n")),
    Case("chunked, no chunk", _chunked(b"")),
    Case("chunked, bad size", _chunked(b"zz\r\n\r\n")),
    Case("chunked, huge size", _chunked(b"f" * 20 + b"\r\n")),
    Case("chunked, bare LF", _chunked(b"0\n\n")),
    Case("chunked in upper case", _chunked(b"0\r\n\r\n", "CHUNKED")),
    Case("chunked and a length", _chunked(b"0\r\n\r\n", "chunked", ("Content-Length", "0"))),
    Case("a length and chunked", _with_body("0", b"0\r\n\r\n", ("Transfer-Encoding", "chunked"))),
    Case("chunked twice", _chunked(b"0\r\n\r\n", "chunked, chunked")),
    Case("gzip, chunked", _chunked(b"0\r\n\r\n", "gzip, chunked")),
    Case("identity", _chunked(b"", "identity")),
    Case("chunked, identity", _chunked(b"0\r\n\r\n", "chunked, identity")),
    Case("transfer-encoding empty", _chunked(b"", "")),
    Case("transfer-encoding of a tab", _chunked(b"0\r\n\r\n", "\tchunked")),
    Case("chunked in HTTP/1.0", lambda u: raw(
        headers=[*HOST, ("Transfer-Encoding", "chunked"), *of_a_grab(u)],
        version="HTTP/1.0", body=b"0\r\n\r\n")),
]  # fmt: skip
EXPECT = [
    Case("expect 100", with_headers(("Expect", "100-continue")), (201,)),
    Case("expect 100 in capitals", with_headers(("Expect", "100-Continue")), (201,)),
    Case("expect 100, body there", _with_body("5", b"hello", ("Expect", "100-continue"))),
    Case("expect 100, body to come", _with_body("5", b"", ("Expect", "100-continue"))),
    Case("expect 100, too long", _with_body("5000", b"", ("Expect", "100-continue"))),
    Case("expect 100, chunked", _chunked(b"", "chunked", ("Expect", "100-continue"))),
    Case("expect 200", with_headers(("Expect", "200-ok"))),
]
LIFE = [
    *(
        Case(f"connection {value}", _connection(value), (201,))
        for value in (
            "close", "Close", "CLOSE", "keep-alive", "Keep-Alive", "KEEP-ALIVE",
            "keep-alive, close", "close, keep-alive", "Keep-Alive,Close", "", "TE", "x-close",
            "closed", "keep-alive, TE", ",", "close,",
        )
    ),
    Case("1.0 keep-alive", _connection("keep-alive", version="HTTP/1.0"), (201,)),
    Case("1.0 Keep-Alive", _connection("Keep-Alive", version="HTTP/1.0"), (201,)),
    Case("proxy-connection close", with_headers(("Proxy-Connection", "close"))),
    Case("keep-alive header", with_headers(("Keep-Alive", "timeout=5, max=100")), (201,)),
    Case("upgrade to websocket", _connection(
        "Upgrade", ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="))),
    Case("upgrade to h2c", _connection("Upgrade, HTTP2-Settings", ("Upgrade", "h2c"))),
    Case("upgrade, keep-alive", _connection("keep-alive, Upgrade", ("Upgrade", "websocket"))),
    Case("upgrade header alone", with_headers(("Upgrade", "websocket"))),
    Case("connection upgrade alone", _connection("Upgrade")),
]  # fmt: skip


def _padded(size: int) -> Make:
    """A grab whose head has exactly so many bytes."""

    def make(user: str) -> bytes:
        plain = raw(headers=[*BROWSER, *of_a_grab(user), ("X-Pad", "")])
        return raw(headers=[*BROWSER, *of_a_grab(user), ("X-Pad", "x" * (size - len(plain)))])

    return make


def _many(count: int) -> Make:
    """A grab with so many headers."""

    def make(user: str) -> bytes:
        own = [*BROWSER, *of_a_grab(user)]
        return raw(headers=[*own, *((f"X-{n}", "y") for n in range(count - len(own)))])

    return make


def _cut(size: int) -> Make:
    return lambda user: raw(headers=[*BROWSER, *of_a_grab(user)])[:size]


SIZES = [
    Case("head of 15 KB", _padded(15_000), (201,)),
    *(Case(f"head of {size}", _padded(size)) for size in (16_000, 16_383, 16_384, 16_385)),
    Case("head of 17 KB", _padded(17_000), (431,)),
    Case("head of 70 KB", _padded(70_000)),
    *(Case(f"{count} headers", _many(count)) for count in (62, 63, 65, 66)),
    Case("60 headers", _many(60), (201,)),
    Case("64 headers", _many(64), (201,)),
    Case("70 headers", _many(70), (431,)),
    Case("500 headers", _many(500)),
    Case("first line of 17 KB", sent(f"POST {PATH}?{'x' * 17_000} HTTP/1.1\r\nHost: a\r\n\r\n")),
    Case("a name of 17 KB", with_headers(("X" * 17_000, "y"))),
    Case("17 KB without an end", always(b"POST " + b"/" * 17_000)),
    Case("leading CRLF, 17 KB", lambda u: b"\r\n" * 8500 + raw(headers=[*HOST, *of_a_grab(u)])),
    *(Case(f"cut after {size}", _cut(size)) for size in (1, 4, 5, 20, 36, 45, 60, 200, 500)),
    Case("cut before the last byte", _cut(-1)),
    Case("cut before the last CRLF", _cut(-2)),
    Case("cut before the last two CRLF", _cut(-4)),
]
BROKEN = [
    Case("garbage", always(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")),
    Case("a line of garbage", always(b"hello\r\n\r\n")),
    Case("NULs", always(b"\0" * 50)),
    Case("only CRLF", always(b"\r\n\r\n")),
    Case("only blanks", always(b"    \r\n\r\n")),
    Case("high bytes", always(bytes(range(128, 256)) + b"\r\n\r\n")),
    Case("an answer", always(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")),
    Case("redis", always(b"*1\r\n$4\r\nPING\r\n")),
]


def _options(*more: tuple[str, str], target: str = PATH) -> Make:
    return always(raw("OPTIONS", target, [*BROWSER, *more]))


ASKS = ("Access-Control-Request-Method", "POST")
ASKS_HEADERS = ("Access-Control-Request-Headers", "authorization,idempotency-key")
HERE, THERE = ("Origin", ORIGIN), ("Origin", "https://evil.example")
ORIGINS = [
    Case("origin allowed", with_headers(HERE), (201,)),
    Case("origin allowed, with a port",
         with_headers(("Origin", "https://m.shop.example:8443")), (201,)),
    Case("origin not allowed", with_headers(THERE), (201,)),
    Case("origin null", with_headers(("Origin", "null")), (201,)),
    Case("origin empty", with_headers(("Origin", "")), (201,)),
    Case("origin in capitals", with_headers(("Origin", ORIGIN.upper())), (201,)),
    Case("origin with a slash", with_headers(("Origin", ORIGIN + "/")), (201,)),
    Case("origin with blanks", with_headers(("Origin", "  " + ORIGIN + "  ")), (201,)),
    Case("origin of another port", with_headers(("Origin", ORIGIN + ":444")), (201,)),
    Case("origin of a longer name", with_headers(("Origin", ORIGIN + ".evil.example")), (201,)),
    Case("origin of plain http", with_headers(("Origin", ORIGIN.replace("https", "http"))), (201,)),
    Case("origins, both allowed", with_headers(HERE, HERE), (201,)),
    Case("origins, allowed first", with_headers(HERE, THERE), (201,)),
    Case("origins, allowed last", with_headers(THERE, HERE), (201,)),
    Case("origins in one header", with_headers(("Origin", f"{ORIGIN}, {ORIGIN}")), (201,)),
    Case("origin with a cookie", with_headers(HERE, ("Cookie", "a=b")), (201,)),
    Case("origin, a bad pass", lambda u: changed(u, "Authorization", "Bearer x")[:-2]
         + f"Origin: {ORIGIN}\r\n\r\n".encode(), (401,)),
    Case("origin, close", _connection("close", HERE), (201,)),
    Case("origin and a request method", with_headers(HERE, ASKS), (201,)),
    Case("preflight", _options(HERE, ASKS, ASKS_HEADERS), (200,)),
    Case("preflight without headers", _options(HERE, ASKS), (200,)),
    Case("preflight, not allowed", _options(THERE, ASKS), (400,)),
    Case("preflight, PUT", _options(HERE, (ASKS[0], "PUT")), (400,)),
    Case("preflight, other headers", _options(HERE, ASKS, (ASKS_HEADERS[0], "x-a")), (400,)),
    Case("preflight, unknown address", _options(HERE, ASKS, target="/v2"), (200,)),
    Case("options without an origin", _options(ASKS), (405,)),
    Case("options without a method", _options(HERE), (405,)),
    Case("options of the server", _options(HERE, ASKS, target="*")),
]  # fmt: skip
BODIES = [*LENGTHS, *CHUNKS, *EXPECT, *LIFE, *SIZES, *BROKEN]
