"""The centre over HTTP: who may, what is refused and how, what a change answers."""

import asyncio
import tomllib
from typing import Any

import httpx2
import msgspec
import pytest

from centre.caller import EXPECTED
from centre.openapi import document
from centre.problems import Code
from centre.requests import BODY_BYTES_MAX
from flashgrab.ledger.revision import head
from flashgrab.model import Definition
from tests.centre.serving import (
    ADMIN_TOKEN,
    Served,
    Servers,
    client,
    definition,
    operation,
    ready,
    serving,
)
from tests.services import embedded

pytestmark = pytest.mark.anyio

TOML = {"content-type": "application/toml"}
JSON = {"content-type": "application/json"}


def body_of(response: httpx2.Response, schema: str) -> dict[str, Any]:
    """The body, once it is checked that it has the fields that the OpenAPI document says."""
    body: dict[str, Any] = response.json()
    described = document()["components"]["schemas"][schema]
    assert set(described["required"]) <= set(body) <= set(described["properties"])
    return body


def problem_of(response: httpx2.Response) -> dict[str, Any]:
    """The problem, once its general fields are checked."""
    assert response.headers["content-type"] == "application/problem+json"
    body = body_of(response, "Problem")
    refusal = Code[body["code"]].value
    assert body["status"] == response.status_code == refusal.status
    assert body["title"] == refusal.title
    assert body["type"] == f"/problems/{body['code'].lower().replace('_', '-')}"
    return body


async def refused(response: httpx2.Response, code: str, detail: str) -> None:
    problem = problem_of(response)
    assert (problem["code"], problem["detail"]) == (code, detail)


@pytest.mark.parametrize(
    "authorization",
    [
        [],
        ["Bearer " + "x" * 32],
        ["Bearer " + ADMIN_TOKEN[:-1]],
        ["Bearer " + ADMIN_TOKEN + "t"],
        ["Basic " + ADMIN_TOKEN],
        [ADMIN_TOKEN],
        ["Bearer"],
        ["Bearer " + ADMIN_TOKEN] * 2,
    ],
    ids=["none", "other", "shorter", "longer", "basic", "bare", "empty", "twice"],
)
@pytest.mark.parametrize(
    "method, path",
    [
        ("GET", "/v1/campaigns"),
        ("POST", "/v1/campaigns"),
        ("POST", "/v1/campaigns/x/pause"),
        ("GET", "/v1/nix"),
    ],
)
async def test_management_is_for_the_administrator(
    served: Served, authorization: list[str], method: str, path: str
) -> None:
    """Without the exact token every address under /v1 is the same 401."""
    headers = [("authorization", value) for value in authorization]
    async with client(served.base_url) as http:
        response = await http.request(method, path, headers=headers)
    await refused(response, "TOKEN_INVALID", EXPECTED)
    assert response.headers["www-authenticate"] == "Bearer"


async def test_a_campaign_from_creation_to_its_end(served: Served) -> None:
    """Every operation over HTTP, each with Redis' agreement, and both sides in the end."""
    campaign_id = "spring-618"
    created = await served.post("/v1/campaigns", definition(id=campaign_id), key="k1")
    assert created.headers["location"] == "/v1/campaigns/spring-618"
    assert (created.status_code, body_of(created, "Created")) == (
        201,
        {
            "campaign_id": campaign_id,
            "action": "create",
            "operation": "k1",
            "status": "DRAFT",
            "version": 1,
            "repeated": False,
            "there": False,
        },
    )
    for version, (action, body, status) in enumerate(
        [
            ("publish", None, "PUBLISHED"),
            ("restock", {"round": 1, "add": 5}, "PUBLISHED"),
            ("pause", {}, "PAUSED"),
            ("resume", None, "PUBLISHED"),
            ("close", None, "OFFLINE"),
        ],
        2,
    ):
        done = await served.post(f"/v1/campaigns/{campaign_id}/{action}", body, key=f"k{version}")
        assert (done.status_code, body_of(done, "Done")) == (
            200,
            {
                "campaign_id": campaign_id,
                "action": action,
                "operation": f"k{version}",
                "status": status,
                "version": version,
                "repeated": False,
                "applied": True,
                **({"round": 1, "quota": 15} if action == "restock" else {}),
            },
        )
    shown = body_of(await served.http.get(f"/v1/campaigns/{campaign_id}"), "Campaign")
    assert (shown["status"], shown["version"], shown["applied_version"]) == ("OFFLINE", 6, 6)
    assert (shown["warmed"], shown["confirmed"], shown["trouble"]) == (True, True, None)
    assert (shown["redis"]["status"], shown["redis"]["version"]) == ("OFFLINE", 6)
    assert shown["rounds"][0]["quota"] == 15
    counts = {"round": 1, "quota": 15, "left": 15, "granted": 0, "returned": 0}
    assert shown["redis"]["rounds"] == [counts]


async def test_a_toml_definition_is_the_same_as_its_json(served: Served) -> None:
    """The file's form and the API's form make the same campaign."""
    text = (
        'id = "toml"\nname = "Ünïcode 🎉"\n[rule]\nkind = "amount_off"\namount = 1\n'
        '[[rounds]]\nopens_at = "now"\ncloses_at = "+2h"\nquota = 3\n'
    )
    headers = TOML | {"idempotency-key": operation()}
    made = await served.http.post("/v1/campaigns", content=text.encode(), headers=headers)
    assert made.status_code == 201, made.text
    again = await served.post("/v1/campaigns", tomllib.loads(text))
    assert (again.status_code, again.json()["there"]) == (200, True)


async def test_a_draft_shows_what_it_will_be(served: Served) -> None:
    """A DRAFT has no times yet and no Redis side."""
    campaign_id = await served.created(name="Draft")
    shown = body_of(await served.http.get(f"/v1/campaigns/{campaign_id}"), "Campaign")
    assert (shown["status"], shown["applied"], shown["opens_at"]) == ("DRAFT", False, None)
    assert (shown["quota"], shown["rounds"], shown["redis"]) == (10, [], None)
    assert (shown["warmed"], shown["confirmed"]) == (False, False)


async def test_the_list_has_pages(served: Served) -> None:
    """Two at a time, `next` leads on, the last page has none."""
    for campaign_id in ("za", "zb", "zc"):
        await served.created(id=campaign_id)
    first = body_of(await served.http.get("/v1/campaigns?limit=2&after=z"), "Campaigns")
    assert ([c["campaign_id"] for c in first["campaigns"]], first["next"]) == (["za", "zb"], "zb")
    second = (await served.http.get("/v1/campaigns?limit=2&after=zb")).json()
    assert ([c["campaign_id"] for c in second["campaigns"]], second["next"]) == (["zc"], None)


async def test_a_restock_repeated_with_its_key_applies_once(served: Served) -> None:
    """Ten requests at once with one key: one application, one answer, `repeated` on nine."""
    campaign_id = await served.created(publish=True)
    path = f"/v1/campaigns/{campaign_id}/restock"
    answers = await asyncio.gather(
        *(served.post(path, {"round": 1, "add": 5}, key="once") for _ in range(10))
    )
    bodies = [answer.json() for answer in answers]
    assert sum(not body.pop("repeated") for body in bodies) == 1
    assert all(body == bodies[0] for body in bodies)
    shown = (await served.http.get(f"/v1/campaigns/{campaign_id}")).json()
    assert (shown["rounds"][0]["quota"], shown["redis"]["rounds"][0]["left"]) == (15, 15)
    other = await served.post(path, {"round": 1, "add": 6}, key="once")
    detail = "operation once was another request before; give this one a key of its own"
    await refused(other, "IDEMPOTENCY_KEY_REUSED", detail)


async def test_other_content_under_a_known_id_names_the_differences(served: Served) -> None:
    """409 with each field: what is there, what was given."""
    await served.created(id="known")
    response = await served.post("/v1/campaigns", definition(id="known", per_user=2))
    detail = "campaign known exists with other content; nothing changed"
    await refused(response, "CAMPAIGN_EXISTS", detail)
    assert response.json()["differences"] == [{"field": "per_user", "there": 1, "given": 2}]


async def test_a_transition_that_is_not_allowed(served: Served) -> None:
    """409 says what the campaign is and what it would have to be."""
    campaign_id = await served.created()
    response = await served.post(f"/v1/campaigns/{campaign_id}/pause")
    detail = f"campaign {campaign_id} is DRAFT; pause needs PUBLISHED"
    await refused(response, "STATUS_CONFLICT", detail)


@pytest.mark.parametrize("keys", [[], [""], ["a b"], ["x" * 65], ["!own"], ["a", "a"]])
async def test_every_write_needs_one_idempotency_key(served: Served, keys: list[str]) -> None:
    """None, a malformed one, or two: 400, and nothing is created."""
    headers = [("idempotency-key", key) for key in keys] + list(JSON.items())
    before = (await served.http.get("/v1/campaigns")).json()
    response = await served.http.post(
        "/v1/campaigns", content=msgspec.json.encode(definition(id="x")), headers=headers
    )
    detail = "Idempotency-Key: expected once, with 1 to 64 characters of A-Z a-z 0-9 . _ ~ -"
    await refused(response, "IDEMPOTENCY_KEY_INVALID", detail)
    for action in ("publish", "pause", "resume", "restock", "close"):
        response = await served.http.post(f"/v1/campaigns/x/{action}", headers=headers)
        await refused(response, "IDEMPOTENCY_KEY_INVALID", detail)
    assert (await served.http.get("/v1/campaigns")).json() == before


ROUND = {"opens_at": "now", "closes_at": "+1h", "quota": 10}
FIELDS = (
    "id, name, rule, rounds, per_user, per_device, durability, limits, challenge, audience, segment"
)


@pytest.mark.parametrize(
    "fields, detail",
    [
        ({"extra": 1}, f"body: extra: unknown field, expected one of: {FIELDS}"),
        (
            {"id": "UP"},
            "body: id: expected 1 to 48 of a-z 0-9 _ - that begin with a letter or digit",
        ),
        ({"name": ""}, "body: name: expected text in quotes of length >= 1"),
        ({"name": "a\x00"}, "body: name: expected text without control characters"),
        ({"per_user": "1"}, "body: per_user: expected a whole number, not text in quotes"),
        ({"per_user": 10**30}, "body: per_user: expected a whole number <= 100"),
        ({"per_device": -1}, "body: per_device: expected a whole number >= 0"),
        ({"rounds": [ROUND] * 401}, "body: rounds: expected a list of length <= 400"),
        (
            {"rounds": [ROUND | {"quota": 10**9}]},
            "body: rounds[0].quota: expected a whole number <= 100000000",
        ),
        (
            {"rounds": [ROUND, ROUND]},
            "body: rounds[1].opens_at: must not come before the end of the round before it",
        ),
        (
            {
                "rounds": [
                    ROUND
                    | {
                        "opens_at": "2026-11-22T10:00:00+08:00",
                        "closes_at": "2026-11-22T01:00:00+00:00",
                    }
                ]
            },
            "body: rounds[0].closes_at: must come after opens_at",
        ),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, dict) else "",
)
async def test_a_wrong_definition_names_the_field(
    served: Served, fields: dict[str, Any], detail: str
) -> None:
    """422 with the field and what was expected; nothing is half created."""
    before = (await served.http.get("/v1/campaigns")).json()
    response = await served.post("/v1/campaigns", definition(**fields))
    await refused(response, "DEFINITION_INVALID", detail)
    assert (await served.http.get("/v1/campaigns")).json() == before


@pytest.mark.parametrize(
    "headers, content, code, detail",
    [
        (JSON, b"{", "INVALID_REQUEST", "body: not JSON: Input data was truncated"),
        (JSON, b"", "INVALID_REQUEST", "body: not JSON: Input data was truncated"),
        (JSON, b"[]", "DEFINITION_INVALID", "body: the whole: expected a table, not a list"),
        (TOML, b"a = ", "DEFINITION_INVALID", "body: not TOML: Invalid value (at end of document)"),
        (
            TOML,
            b'id = "x"\nname = \n',
            "DEFINITION_INVALID",
            "body: not TOML: Invalid value (at line 2, column 8)",
        ),
        (TOML, b"\xff", "INVALID_REQUEST", "body: not UTF-8 at byte 0"),
        (
            {"content-type": "text/plain"},
            b"x",
            "MEDIA_TYPE_UNKNOWN",
            "Content-Type: expected application/json or application/toml",
        ),
        (
            JSON,
            b" " * (BODY_BYTES_MAX + 1),
            "REQUEST_TOO_LARGE",
            f"body: expected at most {BODY_BYTES_MAX} bytes",
        ),
    ],
)
async def test_a_body_that_cannot_be_read(
    served: Served, headers: dict[str, str], content: bytes, code: str, detail: str
) -> None:
    """Broken, foreign and oversized bodies each say what was expected."""
    headers = headers | {"idempotency-key": operation()}
    response = await served.http.post("/v1/campaigns", content=content, headers=headers)
    await refused(response, code, detail)


@pytest.mark.parametrize("content", [b"[" * 200_000, b'{"a":' * 30_000, b'{"id":"\\ud800"}'])
async def test_hostile_json_is_an_invalid_request(served: Served, content: bytes) -> None:
    """Deep nesting and broken escapes are refused like any other wrong body."""
    headers = JSON | {"idempotency-key": operation()}
    response = await served.http.post("/v1/campaigns", content=content, headers=headers)
    assert problem_of(response)["code"] in ("INVALID_REQUEST", "DEFINITION_INVALID")


@pytest.mark.parametrize(
    "body, detail",
    [
        ({}, "body: round: missing"),
        ({"round": 1}, "body: add: missing"),
        ({"round": 1, "add": 0}, "body: add: expected a whole number >= 1"),
        ({"round": 0, "add": 1}, "body: round: expected a whole number >= 1"),
        ({"round": 1, "add": 1.5}, "body: add: expected a whole number, not a fraction"),
        (
            {"round": 1, "add": 1, "by": "me"},
            "body: by: unknown field, expected one of: round, add",
        ),
        ([], "body: the whole: expected a table, not a list"),
    ],
)
async def test_a_wrong_restock_names_the_field(served: Served, body: Any, detail: str) -> None:
    """400 with the field and what was expected."""
    campaign_id = await served.created(publish=True)
    response = await served.post(f"/v1/campaigns/{campaign_id}/restock", body)
    await refused(response, "INVALID_REQUEST", detail)


@pytest.mark.parametrize("action", ["publish", "pause", "resume", "close"])
async def test_operations_without_a_body_take_none(served: Served, action: str) -> None:
    """A field that nobody knows is refused there too."""
    response = await served.post(f"/v1/campaigns/x/{action}", {"force": True})
    detail = "body: force: unknown field, expected one of: none"
    await refused(response, "INVALID_REQUEST", detail)


@pytest.mark.parametrize(
    "query, detail",
    [
        ("limit=0", "query: limit: expected 1 to 200"),
        ("limit=201", "query: limit: expected 1 to 200"),
        ("limit=x", "query: limit: expected 1 to 200"),
        ("after=UP", "query: after: expected a campaign id"),
        ("page=2", "query: 'page': expected after or limit, each once"),
        ("limit=1&limit=2", "query: 'limit': expected after or limit, each once"),
    ],
)
async def test_a_wrong_query_names_its_field(served: Served, query: str, detail: str) -> None:
    """400 with the parameter and what was expected."""
    await refused(await served.http.get(f"/v1/campaigns?{query}"), "INVALID_REQUEST", detail)


@pytest.mark.parametrize("campaign_id", ["nix", "UP", "%20", "a" * 49, "..%2fx"])
async def test_an_unknown_campaign(served: Served, campaign_id: str) -> None:
    """404, for reading and for writing."""
    for response in (
        await served.http.get(f"/v1/campaigns/{campaign_id}"),
        await served.post(f"/v1/campaigns/{campaign_id}/pause"),
    ):
        assert problem_of(response)["code"] in ("CAMPAIGN_NOT_FOUND", "NOT_FOUND")


@pytest.mark.parametrize(
    "method, path, allow",
    [
        ("GET", "/", None),
        ("GET", "/v1", None),
        ("GET", "/v1/", None),
        ("GET", "/v1/campaigns/", None),
        ("POST", "/v1/campaigns/x/archive", None),
        ("DELETE", "/v1/campaigns", {"GET", "HEAD", "POST"}),
        ("GET", "/v1/campaigns/x/pause", {"POST"}),
        ("POST", "/livez", {"GET", "HEAD"}),
    ],
)
async def test_unknown_addresses_and_methods(
    served: Served, method: str, path: str, allow: set[str] | None
) -> None:
    """They are problems too; a wrong method is told all the right ones."""
    response = await served.http.request(method, path)
    if allow is None:
        await refused(response, "NOT_FOUND", "there is no such address; look at /openapi.json")
    else:
        detail = "the Allow header names the methods"
        await refused(response, "METHOD_NOT_ALLOWED", detail)
        assert set(response.headers["allow"].split(", ")) == allow


async def test_postgresql_away(migrated: Servers) -> None:
    """503 with Retry-After for management, /readyz names it, /livez is well."""
    nowhere = "postgresql://nobody@127.0.0.1:1/none"
    async with serving(migrated, postgres_url=nowhere) as served:
        for response in (
            await served.http.get("/v1/campaigns"),
            await served.post("/v1/campaigns", definition()),
            await served.post("/v1/campaigns/x/pause"),
        ):
            detail = "the ledger does not answer; repeat with the same key"
            await refused(response, "BACKEND_UNAVAILABLE", detail)
            assert 1 <= int(response.headers["retry-after"]) <= 2
            assert 1000 <= response.json()["retry_after_ms"] < 2000
        missing = problem_of(await served.http.get("/readyz"))
        assert (missing["missing"], missing["detail"]) == (["postgresql"], "missing: postgresql")
        assert (await served.http.get("/livez")).status_code == 200


async def test_redis_away(migrated: Servers) -> None:
    """A change is committed and says that Redis does not have it; it arrives when Redis is back."""
    with embedded.valkey(aof=True) as valkey:
        async with serving(migrated, redis_url=valkey.url) as served:
            await ready(served)
            campaign_id = await served.created(publish=True)
            valkey.kill()
            missing = problem_of(await served.http.get("/readyz"))
            assert missing["missing"] == ["redis"]
            done = body_of(await served.post(f"/v1/campaigns/{campaign_id}/pause"), "Done")
            assert (done["status"], done["applied"]) == ("PAUSED", False)
            assert "Redis" in done["trouble"]
            shown = body_of(await served.http.get(f"/v1/campaigns/{campaign_id}"), "Campaign")
            assert (shown["status"], shown["applied"], shown["redis"]) == ("PAUSED", False, None)
            assert shown["trouble"].startswith("Redis: ")
            embedded.again(valkey)
            assert await served.centre.applier.applied(campaign_id, 3, 10_000)
            shown = (await served.http.get(f"/v1/campaigns/{campaign_id}")).json()
            assert (shown["redis"]["status"], shown["confirmed"]) == ("PAUSED", False)


async def test_a_lost_campaign_is_shown_and_rebuilt(served: Served) -> None:
    """Redis has lost the campaign: not warmed, the change is not applied, and why; a rebuild, asked
    for until it is over, brings it back with the change, and says what it may have cost."""
    campaign_id = await served.created(publish=True)
    await served.centre.store._redis.flushall()
    done = (await served.post(f"/v1/campaigns/{campaign_id}/pause")).json()
    assert (done["applied"], done["trouble"].startswith("Redis has lost it")) == (False, True)
    shown = body_of(await served.http.get(f"/v1/campaigns/{campaign_id}"), "Campaign")
    assert (shown["warmed"], shown["confirmed"], shown["rebuild_needed"]) == (False, False, True)
    assert f"`flashgrab campaign rebuild {campaign_id}`" in shown["trouble"]
    assert (await served.http.get("/readyz")).json()["rebuild_needed"] >= 1
    key, path = operation(), f"/v1/campaigns/{campaign_id}/rebuild"
    for _ in range(10):
        done = body_of(await served.post(path, {"without_kafka": True}, key=key), "Done")
        if done["applied"]:
            break
    report = done["rebuild"]
    assert (report["step"], report["epoch"], report["coupons"]) == ("DONE", 2, 0)
    assert 0 <= report["lost_seen"] <= report["lost_max"]
    shown = body_of(await served.http.get(f"/v1/campaigns/{campaign_id}"), "Campaign")
    assert (shown["confirmed"], shown["rebuild_needed"], shown["trouble"]) == (True, False, None)
    assert (shown["redis"]["status"], shown["redis"]["epoch"]) == ("PAUSED", 2)


async def test_a_fault_of_ours_shows_no_trace(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception that nobody expected is a bare 500."""

    async def broken(*_: object) -> None:
        raise ValueError("secret")

    monkeypatch.setattr("centre.routes.campaigns.get", broken)
    response = await served.http.get("/v1/campaigns/x")
    detail = "a fault of ours; the log of the centre says more"
    await refused(response, "INTERNAL_ERROR", detail)
    assert "secret" not in response.text


async def test_a_newer_ledger_ends_the_centre(migrated: Servers) -> None:
    """The centre says that it cannot go on where a newer release has migrated the ledger."""
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with serving(migrated) as first:
        await ready(first)
        async with first.centre.pool.connection() as connection:
            await connection.execute("UPDATE alembic_version SET version_num = '9999'")
        try:
            async with serving(migrated, cannot_go_on=told.set_result) as second:
                async with asyncio.timeout(10):
                    assert "schema 9999" in await told
                missing = problem_of(await second.http.get("/readyz"))
                assert missing["missing"] == ["postgresql"]
        finally:
            async with first.centre.pool.connection() as connection:
                await connection.execute("UPDATE alembic_version SET version_num = $1", head())


async def test_health_and_description_need_no_token(served: Served) -> None:
    """/livez, /readyz and /openapi.json answer anybody."""
    async with client(served.base_url) as http:
        assert (await http.get("/livez")).json() == {"status": "alive"}
        assert (await http.get("/readyz")).json()["status"] == "ready"
        assert (await http.get("/openapi.json")).json() == document()


def test_the_definition_of_the_document_is_the_model() -> None:
    """The document's Definition has the model's fields."""
    described = document()["components"]["schemas"]["Definition"]
    assert set(described["properties"]) == set(Definition.__struct_fields__)
