"""Every system of the comparison does the work that it is measured for."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench.books import Books
from bench.serving import Serving
from bench.systems import all_systems
from tests.bench.conftest import Serve

QUOTA = 20
BUYERS = 50
GRANTED, REPLAYED, NO_PASS = (201, ""), (200, ""), (401, "PASS_INVALID")
LIMIT, SOLD_OUT = (409, "USER_LIMIT"), (409, "SOLD_OUT")
SELLING = ["flashgrab", "textbook", "nginx-lua", "go-pipelined", "go-batched"]
ONE_BUILD = pytest.mark.xdist_group("go")  # two at once would write the same file


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=ONE_BUILD) if "go-" in name else name for name in SELLING]
)
def test_it_grants_refuses_and_sells_out_exactly(name: str, serve: Serve, tmp_path: Path) -> None:
    """A grant and no second one, no bad pass; 50 buyers at once get the other 19 coupons."""
    with serve(name, QUOTA) as server:
        tokens, books = minted(server, tmp_path / "passes"), books_of(server)
        first = tokens[0]
        assert server.grab(first, "one") == GRANTED
        assert server.grab(first, "two") == LIMIT
        assert server.grab(first, "one") == (REPLAYED if books.replays else LIMIT)
        altered = first[:-1] + ("1" if first[-1] == "0" else "0")
        for bad in (altered, "", "nonsense", first.replace("u0", "u1")):
            assert server.grab(bad, "three") == NO_PASS
        answers = at_once(server, tokens[1:])
        assert answers.count(GRANTED) == QUOTA - 1
        assert answers.count(SOLD_OUT) == BUYERS - QUOTA
        assert books.granted(server.ask) == QUOTA
        books.check(server.ask, QUOTA)


def test_the_floor_answers_everything_alike(serve: Serve) -> None:
    """No pass, no Redis: a constant."""
    with serve("floor", 0) as server:
        before = server.read()
        assert {server.grab("any", "key"), server.grab("other", "key")} == {(200, "")}
        assert server.read().commands == before.commands


def test_every_system_has_a_name_of_its_own_and_ours_is_first() -> None:
    """Results are found by name, and ratios are ours over the others'."""
    names = [system.name for system in all_systems()]
    assert names == [*SELLING, "floor"]


def minted(server: Serving, file: Path) -> list[str]:
    server.system.passes.mint(file, BUYERS, "u")
    return file.read_text().splitlines()


def at_once(server: Serving, tokens: Sequence[str]) -> list[tuple[int, str]]:
    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(lambda token: server.grab(token, "key"), tokens))


def books_of(server: Serving) -> Books:
    assert server.system.books is not None
    return server.system.books
