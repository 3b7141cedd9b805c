"""segments.py: lists read, digests, and the search among them."""

import pytest

from flashgrab.segments import (
    DIGEST_BYTES,
    LINE_BYTES_MAX,
    Loaded,
    Reader,
    Segment,
    SegmentInvalid,
    SegmentKey,
)

KEY = SegmentKey.parse("k" * 32)


def read(text: bytes, part: int = 7, key: SegmentKey = KEY) -> Loaded:
    """A list that comes in parts of a few bytes."""
    reader = Reader(key)
    for start in range(0, len(text), part):
        reader.feed(text[start : start + part])
    return reader.end()


@pytest.mark.parametrize("part", [1, 3, 1000])
def test_a_list_is_read_however_it_comes(part: int) -> None:
    """Order, doubles, empty lines, CRs and the cuts between parts change nothing."""
    wanted = read(b"anna\nbert\n")
    assert wanted.members == 2
    assert read(b"bert\r\n\r\nanna\n\nanna\nbert", part) == wanted
    assert read(b"anna\ncarl\n", part).stamp != wanted.stamp
    assert read(b"anna\nbert\n", part, SegmentKey.parse("o" * 32)).stamp != wanted.stamp


@pytest.mark.parametrize(
    "text, line",
    [
        (b"anna\nb ert\n", 2),
        (b"anna\n\n\nb,c", 4),
        (b"\xc3\xa9\n", 1),
        (b"ok\n" + b"x" * 65 + b"\nok\n", 2),
        (b"ok\n" + b"x" * 10_000, 2),
        (b"\x00\n", 1),
    ],
)
def test_an_error_names_the_line(text: bytes, line: int) -> None:
    """What is no user id is refused with the number of its line, cut and printable."""
    with pytest.raises(SegmentInvalid, match=rf"^line {line}: ") as caught:
        read(text)
    assert len(str(caught.value)) < 200
    assert str(caught.value).isprintable()


def test_a_list_has_users_and_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """None is a slip of the pen; more than the bound are refused where they begin."""
    for empty in (b"", b"\n\r\n"):
        with pytest.raises(SegmentInvalid, match="empty"):
            read(empty)
    monkeypatch.setattr("flashgrab.segments.MEMBERS_MAX", 3)
    assert read(b"a\nb\nc\na\n"[:6]).members == 3
    with pytest.raises(SegmentInvalid, match="line 4: a segment has at most 3"):
        read(b"a\nb\nc\nd\n")


def test_what_is_not_a_line_yet_stays_small() -> None:
    """Bytes without a line break are refused as soon as they are too long for an id."""
    with pytest.raises(SegmentInvalid):
        Reader(KEY).feed(b"x" * (LINE_BYTES_MAX + 1))


def test_every_member_is_found_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over several chunks, at their edges too."""
    monkeypatch.setattr("flashgrab.segments.CHUNK_BYTES", 16 * DIGEST_BYTES)
    users = [f"u{n}".encode() for n in range(100)]
    loaded = read(b"\n".join(users))
    assert [len(c) // DIGEST_BYTES for c in loaded.chunks] == [16] * 6 + [4]
    segment = Segment(loaded.stamp, loaded.chunks)
    assert segment.members == 100
    assert all(segment.has(KEY.digest(user)) for user in users)
    assert not any(segment.has(KEY.digest(b"other" + user)) for user in users)
    assert not segment.has(b"\0" * DIGEST_BYTES)
    assert not segment.has(b"\xff" * DIGEST_BYTES)


@pytest.mark.parametrize("chunks", [[], [b""], [b"x" * 15], [b"b" * 16, b"a" * 16]])
def test_damaged_chunks_are_no_segment(chunks: list[bytes]) -> None:
    """What is no list of digests lets nobody in by chance: it is refused whole."""
    with pytest.raises(ValueError, match="chunk"):
        Segment("s", chunks)


def test_a_digest_needs_the_key() -> None:
    """128 bits, another key another digest, and a key's mark and repr say nothing of it."""
    other = SegmentKey.parse("o" * 32)
    assert len(KEY.digest(b"anna")) == 16
    assert KEY.digest(b"anna") != other.digest(b"anna")
    assert KEY.mark != other.mark
    assert "kkk" not in repr(KEY)
    with pytest.raises(ValueError, match="32 characters"):
        SegmentKey.parse("k" * 31)
