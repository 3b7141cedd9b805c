"""What is cut out of a plain head, and which shapes are plain."""

import pytest

from gateway.plain import CUT, NotPlain, cut, frame_of, origin_of

LINES = ["Host: shop", "Authorization: Bearer v1.k/c/u//1/m", "Idempotency-Key: key-1"]


def head(*lines: str, campaign: str = "c") -> bytes:
    text = "\r\n".join((f"POST /v1/campaigns/{campaign}/grabs HTTP/1.1", *lines, "", ""))
    return text.encode("latin-1")


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_pass_and_key_are_cut_out_in_any_order(order: tuple[int, ...]) -> None:
    """What is left is the same for every pass and key, and has a NUL for each."""
    found = cut(head(*(LINES[n] for n in order)))
    assert found is not None
    name, token, key, shape = found
    assert (name, token, key) == (b"c", b"v1.k/c/u//1/m", b"key-1")
    assert shape.count(CUT) == 2
    other = cut(head(*(LINES[n].replace("v1", "v2").replace("key-1", "k") for n in order)))
    assert other is not None
    assert other[3] == shape
    assert origin_of(shape, keyed=True) is None


FRAMED = [LINES, LINES[:2], [LINES[1], "X-Any: y", LINES[2], LINES[0]], LINES[::-1]]


@pytest.mark.parametrize("lines", FRAMED)
def test_a_frame_is_what_is_around_pass_and_key(lines: list[str]) -> None:
    """Its parts and theirs make up the head again; nothing else is in it."""
    data = head(*lines, campaign="spring")
    found = cut(data)
    assert found is not None
    name, token, key, shape = found
    frame = frame_of(name, shape, b"more")
    inside = [token, key or b""] if frame.pass_first else [key or b"", token]
    assert frame.prefix + frame.middle.join(inside) + frame.suffix == data
    assert data[frame.start : frame.stop] == frame.middle.join(inside)
    assert (frame.name, frame.more, bool(frame.middle)) == (b"spring", b"more", key is not None)


def test_without_a_key() -> None:
    """One cut, and a shape that is plain without one only."""
    found = cut(head(*LINES[:2]))
    assert found is not None
    assert found[2] is None
    assert origin_of(found[3], keyed=False) is None
    with pytest.raises(NotPlain):
        origin_of(found[3], keyed=True)


@pytest.mark.parametrize(
    "data",
    [
        b"POST /v1/campaigns/c/grabs HTTP/1.0\r\nAuthorization: Bearer x\r\n\r\n",
        b"POST /v1/campaigns/c/grabs?a HTTP/1.1\r\nAuthorization: Bearer x\r\n\r\n",
        head("Host: a"),
        head("Host: a", "AUTHORIZATION: Bearer x"),
        head(*LINES, campaign="c" * 49),
    ],
)
def test_what_cannot_be_cut(data: bytes) -> None:
    """Another version, a query, no pass where it is looked for, a long id."""
    assert cut(data) is None


PLAIN = {
    "nothing else": (),
    "no body": ("Content-Length: 0",),
    "kept": ("Connection: Keep-Alive",),
    "blanks and bytes": ("X-Any:\t a b \xe9 \t", "x-empty:"),
    "twice": ("Accept: a", "Accept: b"),
}
UNPLAIN = {
    "a body": ("Content-Length: 5",),
    "two lengths": ("Content-Length: 0", "content-length: 0"),
    "chunks": ("Transfer-Encoding: chunked",),
    "the end": ("Connection: close",),
    "an upgrade": ("Connection: keep-alive, Upgrade", "Upgrade: h2c"),
    "a proxy": ("Proxy-Connection: close",),
    "100-continue": ("Expect: 100-continue",),
    "a second pass": ("AUTHORIZATION: Bearer y",),
    "a second key": ("idempotency-KEY: y",),
    "a second host": ("HOST: b",),
    "two origins": ("Origin: https://a", "origin: https://b"),
    "a folded line": ("X-A: b", " c"),
    "a bare line feed": ("X-A: b\nc",),
    "a control character": ("X-A: b\x01",),
    "a NUL": ("X-A: \0",),
    "no name": (": b",),
    "a blank in a name": ("X A: b",),
    "no colon": ("X-A",),
    "too many": tuple(f"X-{n}: {n}" for n in range(62)),
}


@pytest.mark.parametrize("more", PLAIN.values(), ids=PLAIN)
def test_plain(more: tuple[str, ...]) -> None:
    """What the parser would take without a word, and the route would not look at."""
    found = cut(head(*more, *LINES))
    assert found is not None
    assert origin_of(found[3], keyed=True) is None


@pytest.mark.parametrize("more", UNPLAIN.values(), ids=UNPLAIN)
def test_not_plain(more: tuple[str, ...]) -> None:
    """Whatever the parser or the route has an opinion of."""
    found = cut(head(*more, *LINES))
    assert found is not None
    with pytest.raises(NotPlain):
        origin_of(found[3], keyed=True)


def test_a_head_needs_its_host() -> None:
    """HTTP/1.1 wants one."""
    found = cut(head(*LINES[1:]))
    assert found is not None
    with pytest.raises(NotPlain):
        origin_of(found[3], keyed=True)


def test_the_origin_is_told() -> None:
    """Without the blanks around it."""
    found = cut(head(*LINES, "Origin:  https://shop.example "))
    assert found is not None
    assert origin_of(found[3], keyed=True) == b"https://shop.example"
