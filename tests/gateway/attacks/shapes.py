"""Requests that two servers in a row would read differently, and what is no HTTP/1.1 at all."""

from tests.gateway.attacks.generator import Attack

MB = 1 << 20
POST = b"POST /v1/campaigns/none/grabs HTTP/1.1\r\nHost: a\r\n"
SMUGGLED = b"GET /livez HTTP/1.1\r\nHost: smuggled\r\n\r\n"
"""Would be answered 200 where it is taken for a request."""
CHUNKED = b"Transfer-Encoding: chunked\r\n"
EMPTY = b"0\r\n\r\n"


def _with(lines: bytes, body: bytes = b"") -> bytes:
    return POST + lines + b"\r\n" + body + SMUGGLED


SMUGGLING = {
    "CL and TE": _with(b"Content-Length: 5\r\n" + CHUNKED, EMPTY),
    "TE and CL": _with(CHUNKED + b"Content-Length: 5\r\n", EMPTY),
    "CL 0 and TE": _with(b"Content-Length: 0\r\n" + CHUNKED, EMPTY),
    "two CLs": _with(b"Content-Length: 0\r\nContent-Length: %d\r\n" % len(SMUGGLED)),
    "two CLs that agree": _with(b"Content-Length: 0\r\nContent-Length: 0\r\n"),
    **{
        f"CL {value!r}": _with(b"Content-Length: %s\r\n" % value)
        for value in (b"0, 0", b"+0", b"-0", b"0x0", b"0 0", b"0\x0b", b"", b"0_0", b"0" * 5 + b"a",
                      b"18446744073709551616")
    },
    "CL with a blank before the colon": _with(b"Content-Length : 0\r\n"),
    "CL after a NUL": _with(b"X: a\0\r\nContent-Length: 0\r\n"),
    "obs-fold": _with(b"X: a\r\n b\r\n"),
    "obs-fold with a tab": _with(b"X: a\r\n\tContent-Length: 0\r\n"),
    "obs-fold of the first field": (
        b"POST /v1/campaigns/none/grabs HTTP/1.1\r\n Host: a\r\n\r\n" + SMUGGLED
    ),
    "bare LF": _with(b"Content-Length: 0\r\n").replace(b"\r\n", b"\n"),
    "bare LF after one field": _with(b"X: a\nContent-Length: 0\r\n"),
    "bare LF at the end of the head": POST + b"\n" + SMUGGLED,
    "bare LF after the first line": POST.replace(b"\r\n", b"\n", 1) + b"\r\n" + SMUGGLED,
    "bare CR": _with(b"X: a\rContent-Length: 0\r\n"),
    **{
        f"TE {value!r}": _with(b"Transfer-Encoding: %s\r\n" % value, EMPTY)
        for value in (b"xchunked", b"identity", b"chunked, identity", b"chunked, chunked", b"cow",
                      b"chunked\x0b", b"\x0bchunked", b"chunked;q=1", b'"chunked"', b"gzip", b"")
    },
    "TE with a blank before the colon": _with(b"Transfer-Encoding : chunked\r\n", EMPTY),
    "TE folded": _with(b"Transfer-Encoding:\r\n chunked\r\n", EMPTY),
    "TE twice": _with(CHUNKED + b"Transfer-Encoding: identity\r\n", EMPTY),
    "TE twice, chunked last": _with(b"Transfer-Encoding: cow\r\n" + CHUNKED, b"0\r\n"),
    **{
        f"chunk {size!r}": _with(CHUNKED, size + b"\r\n\r\n")
        for size in (b"0x0", b"+0", b"-1", b"", b"g", b"f" * 17, b"0 0", b"0\n")
    },
    "chunk whose end is a bare LF": _with(CHUNKED, b"1\r\na\n0\r\n\r\n"),
    "chunk longer than it says": _with(CHUNKED, b"1\r\nabc\r\n0\r\n\r\n"),
    "two hosts": _with(b"Host: b\r\n"),
    "a name with a blank": _with(b"X Y: a\r\n"),
    "a name with a NUL": _with(b"X\0: a\r\n"),
    "a line without a colon": _with(b"nothing\r\n"),
    "HTTP/1.2": SMUGGLED.replace(b"HTTP/1.1", b"HTTP/1.2") + SMUGGLED,
}  # fmt: skip
"""By name: a shape of which nothing may be answered as if it were plain, and then a request."""

JUNK = [
    Attack("an HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"),
    Attack("a TLS hello", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(range(200))),
    Attack("an SSH greeting", b"SSH-2.0-OpenSSH_9.9\r\n"),
    Attack("a PROXY header", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12)),
    Attack("a SOCKS hello", b"\x05\x01\0"),
    Attack("zeros", bytes(4096)),
    Attack("pipelined junk", SMUGGLED * 40 + b"junk" * 500),
    Attack("junk without an end of line", b"A" * 60_000),
    Attack("a head of 1 MB", POST + b"X: ", pour=b"a" * 65536, pour_bytes=MB),
    Attack("a head of many fields", POST, pour=b"X: y\r\n" * 8192, pour_bytes=MB),
    Attack("a target of 1 MB", b"GET /", pour=b"a" * 65536, pour_bytes=MB),
    Attack("blank lines", b"\r\n", pour=b"\r\n" * 32768, pour_bytes=MB),
    Attack(
        "a body of 100 MB",
        POST + b"Content-Length: 104857600\r\n\r\n", pour=b"a" * 65536, pour_bytes=100 * MB,
    ),
    Attack(
        "a chunked body of 100 MB",
        POST + CHUNKED + b"\r\n", pour=b"10000\r\n" + b"a" * 65536 + b"\r\n", pour_bytes=100 * MB,
    ),
    Attack(
        "a chunked body of small chunks",
        POST + CHUNKED + b"\r\n", pour=b"1\r\na\r\n" * 8192, pour_bytes=100 * MB,
    ),
    Attack(
        "chunk extensions for ever",
        POST + CHUNKED + b"\r\n1;", pour=b"a" * 65536, pour_bytes=100 * MB,
    ),
    Attack(
        "trailers for ever",
        POST + CHUNKED + b"\r\n0\r\n", pour=b"X: y\r\n" * 8192, pour_bytes=100 * MB,
    ),
]  # fmt: skip
"""Each is refused or closed by the bytes it sends, whatever the time."""

SLOW = [
    Attack("idle"),
    Attack("half a head", POST),
    Attack("a head that trickles", POST + b"X: ", drip=b"a"),
    Attack("fields that trickle", POST, drip=b"X: y\r\n"),
    Attack("a body that trickles", POST + b"Content-Length: 99\r\n\r\n", drip=b"a"),
    Attack("chunks that trickle", POST + CHUNKED + b"\r\n", drip=b"1\r\na\r\n"),
    Attack("blank lines that trickle", drip=b"\r\n"),
    Attack("a first line that trickles", b"GET /", drip=b"a"),
]
"""Each is closed by the time it takes."""
