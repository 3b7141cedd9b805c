"""Who a request is from: the right-most address that no listed proxy has, of one field."""

import pytest

from gateway.plain import FIELDS_MAX
from gateway.proxies import Proxies, block_of
from gateway.proxy_header import HEADER_BYTES_MAX, SIGNATURE, NotProxied, read_header
from tests.gateway.proxying import proxy_header

LISTED = ("10.0.0.0/8", "fd00::/8")
OLD = Proxies(LISTED, "x-forwarded-for")
NEW = Proxies(LISTED, "forwarded")
PEER = "10.0.0.1"


@pytest.mark.parametrize(
    "values, buyer",
    [
        ([], PEER),
        ([""], PEER),
        (["192.0.2.7"], "192.0.2.7"),
        (["6.6.6.6, 192.0.2.7"], "192.0.2.7"),
        (["6.6.6.6", "192.0.2.7"], "192.0.2.7"),
        (["6.6.6.6, 192.0.2.7 , 10.9.9.9,10.1.1.1"], "192.0.2.7"),
        (["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
        (["192.0.2.7:1234"], "192.0.2.7"),
        (["[2001:db8::7]:1234"], "2001:db8::7"),
        (["2001:DB8:0::7"], "2001:db8::7"),
        (["::ffff:192.0.2.7"], "192.0.2.7"),
        (["fd00::1, fd00::2"], "fd00::1"),
        (["6.6.6.6, unknown"], PEER),
        (["6.6.6.6, 10.2.2.2, , 10.1.1.1"], "10.1.1.1"),
        (["6.6.6.6,"], PEER),
        (["192.0.2.700"], PEER),
        (["6.6.6.6\0"], PEER),
        ([",".join(["10.1.1.1"] * 1000)], "10.1.1.1"),
    ],
)
def test_x_forwarded_for(values: list[str], buyer: str) -> None:
    """From the right; what cannot be read, or is not there, ends the search."""
    assert OLD.buyer(PEER, [value.encode() for value in values]) == buyer


@pytest.mark.parametrize(
    "value, buyer",
    [
        ("for=192.0.2.7", "192.0.2.7"),
        ("For=6.6.6.6, fOr=192.0.2.7;proto=https;by=10.0.0.1", "192.0.2.7"),
        ('for="192.0.2.7:80" ; proto=http', "192.0.2.7"),
        ('for=6.6.6.6, for="[2001:db8::7]:4711", for=10.2.2.2', "2001:db8::7"),
        ("for=6.6.6.6, for=unknown", PEER),
        ("for=6.6.6.6, for=_hidden", PEER),
        ("for=6.6.6.6, proto=https", PEER),
        ("for=6.6.6.6;for=192.0.2.7", PEER),
        ('for="6.6.6.6, for=192.0.2.7', "192.0.2.7"),
        ('for=6.6.6.6;host=", for=192.0.2.7;host="shop"', "192.0.2.7"),
        ('for=6.6.6.6;host=", for=192.0.2.7;host="sh,op"', PEER),
        ("192.0.2.7", PEER),
    ],
)
def test_forwarded(value: str, buyer: str) -> None:
    """RFC 7239's elements; no quote of the buyer swallows what the proxy appends."""
    assert NEW.buyer(PEER, [value.encode()]) == buyer


def test_one_field_is_read_and_only_of_listed_peers() -> None:
    """The other field may come from the buyer, and anybody may send either."""
    fields = [(b"forwarded", b"for=192.0.2.7"), (b"x-forwarded-for", b"192.0.2.8")]
    assert OLD.of_fields(PEER, fields) == "192.0.2.8"
    assert NEW.of_fields(PEER, fields) == "192.0.2.7"
    for proxies in (OLD, NEW, Proxies((), "forwarded")):
        assert proxies.of_fields("192.0.2.1", fields) == "192.0.2.1"
    assert OLD.of_fields("::ffff:10.0.0.1", fields) == "192.0.2.8"


HEAD = b"POST /x HTTP/1.1\r\nHost: a\r\n%sA: b\r\n\r\n"


def test_a_head_without_its_line() -> None:
    """The first such line goes, in any case of letters; the address is that of all of them."""
    line = b"X-Forwarded-For: 6.6.6.6\r\n"
    head = HEAD % (line + b"x-forwarded-for:192.0.2.7\r\n")
    assert OLD.without(HEAD % line) == HEAD % b""
    assert OLD.without(HEAD % b"") == HEAD % b""
    assert OLD.without(head) == HEAD % b"x-forwarded-for:192.0.2.7\r\n"
    assert OLD.of_head(PEER, head) == "192.0.2.7"
    assert OLD.of_head(PEER, HEAD % b"") == PEER
    last = b"POST /x HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n"
    assert OLD.without(last) == b"POST /x HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize(
    "lines",
    [
        b"X-Forwarded-For : 1.1.1.1\r\n",
        b"X-Forwarded-For: 1.1.1.1\r\n folded\r\n",
        b"X-Forwarded-For: 1.1.1.1\r\n\tfolded: b\r\n",
        b"X-Forwarded-For: 1.1.1.1\n",
        b"X-Forwarded-For: 1.1\0.1.1\r\n",
        b"X-Forwarded-For: 1.1\r.1.1\r\n",
        b"X-Forwarded-For: 1.1.1.1\r\n" + b"A: b\r\n" * (FIELDS_MAX - 2),
    ],
)
def test_a_line_that_the_parser_would_judge_stays(lines: bytes) -> None:
    """Folded, with control characters, or one field too many: the ordinary way has to see it."""
    assert OLD.without(HEAD % lines) == HEAD % lines


def test_blocks() -> None:
    """One IPv4 address, mapped or not; the /64 of an IPv6 one; what is no address is itself."""
    assert block_of("192.0.2.7") == block_of("::ffff:192.0.2.7") == "192.0.2.7"
    assert block_of("2001:db8:0:1::7") == block_of("2001:db8:0:1:ffff::1%eth0") == "2001:db8:0:1::"
    assert block_of("") == ""


@pytest.mark.parametrize("host", ["192.0.2.7", "2001:db8::7"])
def test_a_proxy_header_is_read(host: str) -> None:
    """Byte by byte nothing before its end; then the source, and what follows untouched."""
    header = proxy_header(host, 4711, more=b"\x04\0\x01x")
    for size in range(len(header)):
        assert read_header(header[:size]) is None
    assert read_header(header + b"GET /") == ((host, 4711), b"GET /")


def test_a_proxy_header_without_an_address() -> None:
    """LOCAL is the balancer's own probe; what is not TCP names nobody we know."""
    local = SIGNATURE + b"\x20\x00\x00\x00"
    assert read_header(local + b"x") == (None, b"x")
    for family in (0x00, 0x12, 0x31):
        assert read_header(SIGNATURE + bytes((0x21, family, 0, 2)) + b"..x") == (None, b"x")


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
        b"\r\n\r\nG",
        SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11),
        SIGNATURE + b"\x21\x21\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11" + HEADER_BYTES_MAX.to_bytes(2, "big"),
    ],
)
def test_what_is_no_proxy_header(data: bytes) -> None:
    """Another protocol, version 1, an unknown command, lengths that do not fit or are too long."""
    with pytest.raises(NotProxied):
        read_header(data)
