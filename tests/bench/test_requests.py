"""The files of passes and keys."""

from pathlib import Path

import pytest

from bench import requests
from bench.passes import HmacPasses
from bench.requests import Requests, head


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Requests:
    monkeypatch.setattr(requests, "WARM", 30)
    monkeypatch.setattr(requests, "STORM", 10)
    monkeypatch.setattr(requests, "USERS_RATE", 100)
    return Requests(tmp_path, HmacPasses(), 2)


def pairs(file: Path) -> list[tuple[str, str]]:
    lines = file.read_text().splitlines()
    return list(zip(lines[::2], lines[1::2], strict=True))


def users(file: Path) -> list[str]:
    return [token.split(".")[1] for token, _ in pairs(file)]


def test_every_user_of_w1_is_there_once_and_in_no_other_file(files: Requests) -> None:
    """Enough for the seconds at the highest rate; other connections, other users."""
    names = ["warm", "W1-64", "W1-256"]
    found = [users(files.file(name)) for name in names]
    assert list(map(len, found)) == [30, 200, 200]
    assert len({user for some in found for user in some}) == 430


def test_the_storm_is_holders_with_their_own_key_and_with_another(files: Requests) -> None:
    """The users whom the warm-up granted first, each twice, one of the two a replay."""
    warm, storm = pairs(files.file("warm"))[:10], pairs(files.file("W3"))
    assert len(storm) == 20
    assert {token for token, _ in storm} == {token for token, _ in warm}
    assert len(set(storm) & set(warm)) == 10


def test_the_head_is_that_of_a_browser_for_one_server(tmp_path: Path) -> None:
    """CRLF, no empty line, Host with its port: generators put key and pass behind it."""
    lines = head(tmp_path, 4711).read_bytes().split(b"\r\n")
    assert lines[0] == b"POST /v1/campaigns/bench/grabs HTTP/1.1"
    assert lines[1] == b"Host: 127.0.0.1:4711"
    assert lines[-1] == b""
    assert len(lines) == 15
