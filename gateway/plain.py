"""What a plain grab looks like in bytes. Pure.

A head is cut into what differs from grab to grab (campaign, pass, key) and the rest, its shape. The
heads of a crowd look alike, so a shape is examined once and then known; the shape has a NUL where
something was cut out, which no head can have. The heads of one client in one campaign look alike
but for pass and key: what is around these two is its frame, and needs no cutting.
"""

import re
import string
from typing import NamedTuple

GRABS = b"POST /v1/campaigns/"
PLAIN_BYTES_MAX = 4096
FIELDS_MAX = 64
KEY_BYTES_MAX = 64
NAMES_MAX = 1000
"""Names of fields that were seen to be names."""
CUT = b"\0"

_IN_KEYS = (string.ascii_letters + string.digits + "._~-").encode()
is_token = re.compile(rb"[\x21-\x7e]+").fullmatch

# Lengths are kept: taking them anew was a tenth of this module's time.
_TAIL = b"/grabs HTTP/1.1\r\n"
_TAIL_LENGTH = len(_TAIL) - 2  # the shape begins with the line's end
_NAME_AT = len(GRABS)
_TAIL_END_MAX = _NAME_AT + 48 + len(_TAIL)
_PASS = b"\r\nAuthorization: Bearer "
_PASS_LOWER = b"\r\nauthorization: Bearer "
_PASS_LENGTH = len(_PASS)
_KEY = b"\r\nIdempotency-Key: "
_KEY_LOWER = _KEY.lower()
_KEY_LENGTH = len(_KEY)
_is_name = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_TEXT = bytes((0, 9, *range(32, 127), *range(128, 256)))
_WATCHED = frozenset(
    (b"authorization", b"connection", b"content-length", b"host", b"idempotency-key", b"origin")
)
"""Fields that may be there once, and whose values matter."""
_UNPLAIN = frozenset((b"expect", b"proxy-connection", b"trailer", b"transfer-encoding", b"upgrade"))
"""Fields that make the parser or the route do something else."""
_names: dict[bytes, bytes] = {}

Cut = tuple[bytes, bytes, bytes | None, bytes]
"""Campaign, pass, key (None where there is none), and the shape."""


def is_key(key: bytes) -> bool:
    """Whether it is an idempotency key (contract §2)."""
    return 0 < len(key) <= KEY_BYTES_MAX and not key.translate(None, _IN_KEYS)


def cut(data: bytes) -> Cut | None:
    """The head of a grab, all there is of it, in parts; None: not plain."""
    if data[-4:] != b"\r\n\r\n" or data[:_NAME_AT] != GRABS or len(data) > PLAIN_BYTES_MAX:
        return None
    end = data.find(_TAIL, _NAME_AT, _TAIL_END_MAX)
    if end < 0:
        return None
    at = data.find(_PASS, end)
    if at < 0 and (at := data.find(_PASS_LOWER, end)) < 0:
        return None
    pass_from = at + _PASS_LENGTH
    pass_to = data.find(b"\r\n", pass_from)
    if data.startswith(_KEY, pass_to):  # mostly, so there is nothing to search for
        at = pass_to
    else:
        at = data.find(_KEY, end)
        if at < 0:
            at = data.find(_KEY_LOWER, end)
    head = end + _TAIL_LENGTH
    name, token = data[_NAME_AT:end], data[pass_from:pass_to]
    if at < 0:
        return name, token, None, CUT.join((data[head:pass_from], data[pass_to:]))
    key_from = at + _KEY_LENGTH
    key_to = data.find(b"\r\n", key_from)
    if pass_from < key_from:
        parts = (data[head:pass_from], data[pass_to:key_from], data[key_to:])
    else:
        parts = (data[head:key_from], data[key_to:pass_from], data[pass_to:])
    return name, token, data[key_from:key_to], CUT.join(parts)


class Frame(NamedTuple):
    """What is around pass and key in a plain head. What fits into it is plain where the pass is
    valid and the key is one: neither can have a line's end in it."""

    prefix: bytes
    middle: bytes  # empty where there is no key
    suffix: bytes
    pass_first: bool
    start: int
    stop: int
    name: bytes  # of the campaign
    more: bytes  # header lines that the answer gets besides


NO_FRAME = Frame(CUT, b"", b"", True, 0, 0, b"", b"")
"""Nothing fits into it."""


def frame_of(name: bytes, shape: bytes, more: bytes) -> Frame:
    """The frame of a plain shape in this campaign."""
    before, after = shape.split(CUT, 1)
    middle, _, suffix = after.rpartition(CUT)
    prefix = GRABS + name + _TAIL[:_TAIL_LENGTH] + before
    pass_first = before.endswith(_PASS[-8:])
    return Frame(prefix, middle, suffix, pass_first, len(prefix), -len(suffix), name, more)


class NotPlain(Exception):
    """The ordinary way has to look at this request."""


def origin_of(shape: bytes, *, keyed: bool) -> bytes | None:
    """The Origin of a plain shape, None where it has none. Raises NotPlain."""
    lines = shape[2:-4].split(b"\r\n")
    ends = b"\r\n" * (len(lines) + 2)
    if shape.translate(None, _TEXT) != ends or shape[:2] + shape[-4:] != b"\r\n\r\n\r\n":
        raise NotPlain  # control characters, bare line ends
    fields: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        watched = _names.get(name)
        if watched is None:
            watched = _learn(name)
        if not colon or watched in fields:
            raise NotPlain
        if watched:
            fields[watched] = value
    plain = (
        len(lines) <= FIELDS_MAX
        and shape.count(CUT) == 1 + keyed
        and fields.get(b"authorization") == b" Bearer " + CUT
        and fields.get(b"idempotency-key") == (b" " + CUT if keyed else None)
        and b"host" in fields
        and fields.get(b"content-length", b"0").strip(b" \t") == b"0"
        and fields.get(b"connection", b"keep-alive").strip(b" \t").lower() == b"keep-alive"
    )
    if not plain:
        raise NotPlain
    origin = fields.get(b"origin")
    return None if origin is None else origin.strip(b" \t")


def _learn(name: bytes) -> bytes:
    """The name in lower case where its value matters, else b"". Raises NotPlain."""
    if _is_name(name) is None or name.lower() in _UNPLAIN:
        raise NotPlain
    if len(_names) >= NAMES_MAX:
        _names.clear()
    lower = name.lower()
    watched = _names[name] = lower if lower in _WATCHED else b""
    return watched
