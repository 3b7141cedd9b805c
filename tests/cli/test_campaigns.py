"""The client behind `campaign` and `up`: its repeats, and campaigns that `up` makes sure of."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from flashgrab.cli.campaigns import Centre, Refused, ensure_demo, ensure_file, new_operation
from flashgrab.cli.failure import Failure
from flashgrab.model import parse
from tests.centre.serving import ADMIN_TOKEN, definition
from tests.cli.conftest import CENTRE

pytestmark = CENTRE

DONE = {"status": "PAUSED"}
Answer = Callable[[httpx2.Request], httpx2.Response]


@pytest.fixture
def centre(centre_url: str) -> Iterator[Centre]:
    with Centre(centre_url, ADMIN_TOKEN) as client:
        yield client


def fake(*answers: Answer, seconds: float = 10) -> tuple[Centre, list[httpx2.Request], list[float]]:
    """A client whose requests are answered one by one; the requests, and its pauses."""
    seen: list[httpx2.Request] = []
    pauses: list[float] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return answers[min(len(seen), len(answers)) - 1](request)

    transport = httpx2.MockTransport(answer)
    client = Centre(
        "http://centre", "token", repeat_s_max=seconds, transport=transport, sleep=pauses.append
    )
    return client, seen, pauses


def gone(request: httpx2.Request) -> httpx2.Response:
    raise httpx2.ConnectError("refused", request=request)


def late(request: httpx2.Request) -> httpx2.Response:
    raise httpx2.ReadTimeout("", request=request)


def busy(_request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(503, json={"code": "BACKEND_UNAVAILABLE", "detail": "no ledger"})


def done(_request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(200, json=DONE)


def test_repeats_of_a_write_reuse_its_key() -> None:
    """Lost connections, lost answers and 503 are repeated with the very same operation id."""
    client, seen, pauses = fake(gone, late, busy, done)
    assert client.change("x", "pause", "op-1") == DONE
    assert [request.headers["idempotency-key"] for request in seen] == ["op-1"] * 4
    assert len({request.content for request in seen}) == 1
    assert len(pauses) == 3
    assert sum(pauses) < 1


def test_a_refusal_is_not_repeated() -> None:
    """What the centre decided stands."""
    problem = {"code": "STATUS_CONFLICT", "detail": "is DRAFT"}
    client, seen, _pauses = fake(lambda _request: httpx2.Response(409, json=problem))
    with pytest.raises(Refused, match="is DRAFT") as caught:
        client.change("x", "pause", "op-1")
    assert (caught.value.code, len(seen)) == ("STATUS_CONFLICT", 1)


@pytest.mark.parametrize(
    "answer, reason",
    [(gone, "refused"), (late, "ReadTimeout"), (busy, "no ledger")],
)
def test_repeats_have_an_end(answer: Answer, reason: str) -> None:
    """Past its seconds the client gives up with one line that says why."""
    client, _seen, _pauses = fake(answer, seconds=0)
    with pytest.raises(Failure, match=f"the centre at http://centre does not answer .*{reason}"):
        client.show("x")


def test_somebody_else_on_the_port() -> None:
    """An answer that is not the centre's is no answer."""
    client, _seen, _pauses = fake(lambda _request: httpx2.Response(200, text="<html>"), seconds=0)
    with pytest.raises(Failure, match="HTTP 200, but not its own"):
        client.show("x")


def write(folder: Path, campaign_id: str, quota: int = 10) -> Path:
    path = folder / "campaign.toml"
    path.write_text(
        f'id = "{campaign_id}"\nname = "A test"\n[rule]\nkind = "amount_off"\namount = 3000\n'
        f'threshold = 20000\n[[rounds]]\nopens_at = "now"\ncloses_at = "+1h"\nquota = {quota}\n'
    )
    return path


def test_a_file_is_published_once(centre_url: str, centre: Centre, tmp_path: Path) -> None:
    """The first `up` publishes it, the next one leaves it, whatever happened to it since."""
    file = write(tmp_path, "file-1")
    assert ensure_file(centre_url, ADMIN_TOKEN, file) == "campaign file-1 published"
    assert centre.show("file-1")["status"] == "PUBLISHED"
    centre.change("file-1", "pause", new_operation())
    line = "campaign file-1 is there already (PAUSED)"
    assert ensure_file(centre_url, ADMIN_TOKEN, file) == line
    assert centre.show("file-1")["version"] == 3


def test_a_file_with_other_content_is_refused(centre_url: str, tmp_path: Path) -> None:
    """Another content under a known id ends `up` with the difference."""
    ensure_file(centre_url, ADMIN_TOKEN, write(tmp_path, "file-2"))
    with pytest.raises(Failure, match=r"file-2 exists .*: rounds\[0\]\.quota is 10, here 11"):
        ensure_file(centre_url, ADMIN_TOKEN, write(tmp_path, "file-2", quota=11))


def test_a_publish_that_was_cut_off_is_completed(
    centre_url: str, centre: Centre, tmp_path: Path
) -> None:
    """A DRAFT that an `up` left behind is published; a DRAFT of somebody's own is left."""
    ours, theirs = parse(definition(id="cut-1"), "t"), parse(definition(id="cut-2"), "t")
    centre.create(ours, "up-cut-1")
    centre.create(theirs, new_operation())
    line = ensure_file(centre_url, ADMIN_TOKEN, write(tmp_path, "cut-1"))
    assert line == "campaign cut-1 published"
    line = ensure_file(centre_url, ADMIN_TOKEN, write(tmp_path, "cut-2"))
    assert line == "campaign cut-2 is there already (DRAFT)"


def test_the_demo_is_always_one_that_goes_on(centre_url: str, centre: Centre) -> None:
    """demo-1 at first; the same while it goes on; a new number once it is over or closed."""
    opens = "campaign demo-{} opens in 30 s with 100 coupons"
    assert ensure_demo(centre_url, ADMIN_TOKEN)[0] == opens.format(1)
    assert ensure_demo(centre_url, ADMIN_TOKEN)[0].startswith("campaign demo-1 goes on until 2")
    centre.change("demo-1", "close", new_operation())
    assert ensure_demo(centre_url, ADMIN_TOKEN)[0] == opens.format(2)
    ended = parse(
        definition(
            id="demo-10",
            rounds=[
                {"opens_at": "2026-01-01T00:00:00Z", "closes_at": "+1h", "quota": 1},
            ],
        ),
        "t",
    )
    centre.create(ended, new_operation())
    assert ensure_demo(centre_url, ADMIN_TOKEN)[0] == opens.format(10)  # published: cut off before
    assert ensure_demo(centre_url, ADMIN_TOKEN)[0] == opens.format(11)
    for stranger in ("demo-x", "demo-11-b", "demo_99"):
        centre.create(parse(definition(id=stranger), "t"), new_operation())
    assert ensure_demo(centre_url, ADMIN_TOKEN)[0].startswith("campaign demo-11 goes on")
