"""Staff at the centre: roles, tokens, revoking, and the log of every write."""

import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import httpx2
import pytest
from starlette.routing import BaseRoute, Mount, Route

from centre.access import ACCESS, ANYBODY, check
from centre.app import make_app
from centre.problems import Problem
from flashgrab.ledger.staff import Holder
from flashgrab.staff import Role, make, read
from tests.centre.serving import Served, Servers, client, definition, operation, settings

pytestmark = pytest.mark.anyio

UNKNOWN = make("token").shown()


def served_routes(found: list[BaseRoute], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every method and path of the application; of a mount that is not ours, its prefix."""
    for route in found:
        if isinstance(route, Mount):
            yield from served_routes(route.routes, prefix + route.path)
        else:
            assert isinstance(route, Route)
            for method in (route.methods or set()) - {"HEAD"}:
                yield method, prefix + route.path


async def token(served: Served, role: Role, name: str = "") -> dict[str, Any]:
    """A new token, made by the root."""
    body = {"name": name or f"a-{role}", "role": role, "valid_s": 3600}
    made = await served.post("/v1/tokens", body)
    assert made.status_code == 201, made.text
    answer: dict[str, Any] = made.json()
    return answer


def holding(served: Served, shown: str) -> httpx2.AsyncClient:
    return client(served.base_url, headers={"authorization": f"Bearer {shown}"})


async def last(served: Served) -> dict[str, Any]:
    """The latest entry of the log."""
    entry: dict[str, Any] = (await served.http.get("/v1/log?limit=1")).json()["entries"][0]
    return entry


@pytest.fixture(scope="module")
async def by_role(served: Served) -> AsyncIterator[dict[Role, httpx2.AsyncClient]]:
    """A client of each role."""
    clients = {role: holding(served, (await token(served, role))["token"]) for role in Role}
    yield clients
    for one in clients.values():
        await one.aclose()


async def test_every_route_has_an_entry_and_nothing_else(migrated: Servers) -> None:
    """The table of roles is the application's routes: a new one without an entry fails here."""
    app = make_app(settings(migrated))
    assert set(ACCESS) == set(served_routes(list(app.routes)))


def test_a_route_without_an_entry_is_for_nobody() -> None:
    """Forgetting the table closes a route; it never opens one."""
    admin = Holder("root", "token", "root", Role.ADMIN, 1)
    with pytest.raises(Problem, match="it is for nobody"):
        check(admin, "POST", "/v1/new")


@pytest.mark.parametrize("method, path", sorted(ACCESS), ids=" ".join)
async def test_each_call_is_for_its_roles_only(
    served: Served, by_role: dict[Role, httpx2.AsyncClient], method: str, path: str
) -> None:
    """Over HTTP, each role at each route: 403 exactly where the table does not name it, and 401
    for a token that nobody made."""
    allowed = ACCESS[method, path]
    # names that nothing has and keys that none may have: who is let in changes nothing
    where = re.sub(r"\{\w+\}", "none", path)
    for role, http in by_role.items():
        answer = await http.request(method, where)
        forbidden = answer.status_code == 403 and answer.json()["code"] == "ROLE_FORBIDDEN"
        assert forbidden == (allowed is not None and role not in allowed), answer.text
    async with holding(served, UNKNOWN) as http:
        answer = await http.request(method, where)
    assert (answer.status_code == 401) == (allowed is not ANYBODY or path == "/ops/session") or (
        (method, path) == ("POST", "/ops/session")
    )


async def test_writing_and_opening_a_campaign_are_two_roles(
    by_role: dict[Role, httpx2.AsyncClient],
) -> None:
    """A merchandiser creates and cannot publish; an approver publishes and cannot create."""
    made = definition()
    key = {"idempotency-key": operation()}
    merchandiser, approver = by_role[Role.MERCHANDISER], by_role[Role.APPROVER]
    publish = f"/v1/campaigns/{made['id']}/publish"
    tried = await approver.post("/v1/campaigns", json=made, headers=key)
    assert (
        tried.json()["detail"] == "role approver may not do this; it is for merchandiser or admin"
    )
    assert (await merchandiser.post("/v1/campaigns", json=made, headers=key)).status_code == 201
    key = {"idempotency-key": operation()}
    assert (await merchandiser.post(publish, headers=key)).status_code == 403
    assert (await approver.post(publish, headers=key)).json()["status"] == "PUBLISHED"


async def test_a_token_is_kept_as_a_hash_only(served: Served, migrated: Servers) -> None:
    """No row of the ledger, of the log neither, holds what proves a token; no list shows it."""
    made = await token(served, Role.VIEWER, "hashed")
    secret = made["token"].rpartition("_")[2]
    connection = await asyncpg.connect(migrated.postgres_url)
    rows = await connection.fetch(
        "SELECT s::text FROM staff s UNION ALL SELECT l::text FROM staff_log l"
        " UNION ALL SELECT o::text FROM operations o"
    )
    await connection.close()
    listed = (await served.http.get("/v1/tokens")).text
    assert made["id"] in listed
    assert not [text for text in [listed, *(row[0] for row in rows)] if secret in text]


@pytest.mark.parametrize("at", [0, 1, 21, 42])
async def test_one_wrong_letter_is_refused(served: Served, at: int) -> None:
    """Wherever it is: the same 401 as for a token that was never made."""
    made = await token(served, Role.ADMIN, "spelled")
    start = made["token"].rindex(made["token"].split("_", 2)[2])
    letters = list(made["token"])
    letters[start + at] = "x" if letters[start + at] != "x" else "y"
    answers = []
    for shown in ("".join(letters), UNKNOWN, made["token"][:-1], made["token"] + "x"):
        async with holding(served, shown) as http:
            answers.append(await http.get("/v1/campaigns"))
    assert {answer.status_code for answer in answers} == {401}
    said = [{**answer.json(), "request_id": ""} for answer in answers]
    assert all(one == said[0] for one in said)


async def test_a_revoked_token_is_refused_at_once(served: Served) -> None:
    """And stays so; revoking again changes nothing; an unknown id is 404."""
    made = await token(served, Role.OPERATOR, "leaver")
    async with holding(served, made["token"]) as http:
        assert (await http.get("/v1/campaigns")).status_code == 200
        first = await served.post(f"/v1/tokens/{made['id']}/revoke")
        assert (await http.get("/v1/campaigns")).status_code == 401
    again = await served.post(f"/v1/tokens/{made['id']}/revoke")
    assert (first.status_code, again.json()) == (200, first.json())
    assert (await served.post("/v1/tokens/0123456789abcdef/revoke")).status_code == 404


async def test_a_token_ends_when_it_says(served: Served, migrated: Servers) -> None:
    """At its end it is as unknown as any other."""
    made = await token(served, Role.OPERATOR, "over")
    connection = await asyncpg.connect(migrated.postgres_url)
    await connection.execute("UPDATE staff SET expires_ms = 1 WHERE id = $1", made["id"])
    await connection.close()
    async with holding(served, made["token"]) as http:
        assert (await http.get("/v1/campaigns")).status_code == 401


async def test_a_lost_answer_to_create_is_asked_again(served: Served) -> None:
    """The same key gives the same token a new secret, and the old one is worth nothing."""
    body, key = {"name": "twice", "role": "viewer", "valid_s": 60}, operation()
    first = (await served.post("/v1/tokens", body, key=key)).json()
    again = (await served.post("/v1/tokens", body, key=key)).json()
    assert first["id"] == again["id"]
    for made, status in ((first, 401), (again, 200)):
        async with holding(served, made["token"]) as http:
            assert (await http.get("/v1/campaigns")).status_code == status
    other = await served.post("/v1/tokens", body | {"role": "admin"}, key=key)
    assert (other.status_code, other.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")


@pytest.mark.parametrize(
    "wrong",
    [{"name": "root"}, {"name": ""}, {"name": "a b"}, {"role": "king"}, {"valid_s": 0}, {"x": 1}],
    ids=str,
)
async def test_a_wrong_token_is_not_made(served: Served, wrong: dict[str, Any]) -> None:
    """Names, roles and times have their form; "root" is nobody else's name."""
    body = {"name": "ann", "role": "viewer", "valid_s": 60} | wrong
    assert (await served.post("/v1/tokens", body)).status_code == 400


async def test_every_write_is_in_the_log(served: Served) -> None:
    """Who, what, under which key, before and after, and how it ended."""
    made = await token(served, Role.OPERATOR, "olga")
    campaign_id = await served.created(publish=True)
    key = operation()
    async with holding(served, made["token"]) as http:
        path, keyed = f"/v1/campaigns/{campaign_id}", {"idempotency-key": key}
        assert (await http.post(f"{path}/pause", headers=keyed)).status_code == 200
        entry = await last(served)
        assert entry["at"] <= entry["ended_at"]
        state = {"status": "PUBLISHED", "version": 2, "quotas": [10]}
        assert {k: v for k, v in entry.items() if k not in ("entry", "at", "ended_at")} == {
            "name": "olga",
            "role": "operator",
            "credential": made["id"],
            "action": "POST /v1/campaigns/{campaign_id}/pause",
            "target": campaign_id,
            "operation": key,
            "before": state,
            "after": state | {"status": "PAUSED", "version": 3},
            "status": 200,
            "code": "OK",
        }
        await http.post(f"{path}/pause", headers={"idempotency-key": operation()})
        assert ((await last(served))["status"], (await last(served))["code"]) == (
            409,
            "STATUS_CONFLICT",
        )
        await http.post(f"{path}/publish", headers={"idempotency-key": operation()})
        entry = await last(served)
        assert (entry["status"], entry["code"]) == (403, "ROLE_FORBIDDEN")
        assert entry["before"] == entry["after"]
    await served.post(f"/v1/campaigns/{campaign_id}/resume")
    assert ((await last(served))["name"], (await last(served))["credential"]) == ("root", "root")
    mine = (await served.http.get("/v1/log?name=olga")).json()["entries"]
    assert [one["code"] for one in mine] == ["ROLE_FORBIDDEN", "STATUS_CONFLICT", "OK"]


async def test_looking_is_not_logged(served: Served) -> None:
    """Reads leave no entry."""
    before = await last(served)
    for path in ("/v1/campaigns", "/v1/tokens", "/v1/log"):
        assert (await served.http.get(path)).status_code == 200
    assert await last(served) == before


@pytest.mark.parametrize("path", ["/v1/campaigns/a%00b/pause", "/v1/grabs/%00/return"])
async def test_what_no_table_takes_is_refused_and_logged(served: Served, path: str) -> None:
    """A NUL in a path is no fault of ours."""
    assert (await served.post(path)).status_code == 404
    assert "?" in (await last(served))["target"]


def test_the_form_of_a_credential() -> None:
    """What is made can be read, as its own kind only; one secret fits one hash."""
    made, other = make("token"), make("token")
    assert read("token", made.shown()) == made
    assert read("link", made.shown()) is read("session", made.shown()) is None
    assert made.is_of(made.hashed())
    assert not made.is_of(other.hashed())
    assert not made.is_of(None)
    assert made.secret not in made.csrf()
