"""Passes over HTTP: who gets one, and which ones count at the grab."""

import time
from typing import Any

import pytest

from flashgrab.clock import from_rfc3339
from flashgrab.model import AFTER_END_MS
from tests.gateway.asking import ask_pass, assert_problem, identity
from tests.gateway.serving import HOUR_MS, Served

pytestmark = pytest.mark.anyio

# -- passes --------------------------------------------------------------------------------------


async def test_a_pass_is_issued_and_grabs(strict: Served) -> None:
    """201 with exactly the contract's fields; valid until 10 minutes after the last round."""
    campaign_id = await strict.campaign(rounds=[(-1000, 1000, 1), (HOUR_MS, 2 * HOUR_MS, 1)])
    response = await ask_pass(strict, campaign_id, **identity("anna"))
    assert response.status_code == 201
    body = response.json()
    assert set(body) == {"pass", "campaign_id", "not_before", "expires_at"}
    assert body["campaign_id"] == campaign_id
    ends_at = strict.known(campaign_id).ends_at
    assert from_rfc3339(body["expires_at"]) == ends_at + AFTER_END_MS
    assert abs(from_rfc3339(body["not_before"]) - time.time() * 1000) < 2000
    assert response.headers["cache-control"] == "no-store"
    bearer = {"authorization": f"Bearer {body['pass']}"}
    grab = await strict.http.post(f"/v1/campaigns/{campaign_id}/grabs", headers=bearer)
    assert grab.status_code == 201
    assert (await strict.store.holder(campaign_id, "anna")).startswith("1,1,1,g,!")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Basic dTpw"},
        {"authorization": "Bearer not.a.token"},
        identity(aud="other"),
        identity(iss="other"),
        identity(exp=int(time.time()) - 1),
        identity(sub="not,a,user"),
    ],
    ids=["none", "empty", "bare", "basic", "junk", "aud", "iss", "expired", "form"],
)
async def test_a_pass_needs_an_identity(strict: Served, headers: dict[str, str]) -> None:
    """Whatever is wrong with the token: one answer for all, 401 with WWW-Authenticate."""
    campaign_id = await strict.campaign()
    response = await ask_pass(strict, campaign_id, **headers)
    assert_problem(response, 401, "IDENTITY_INVALID")
    assert response.headers["www-authenticate"] == "Bearer"


async def test_a_pass_is_no_identity(strict: Served) -> None:
    """A pass does not get its holder another pass."""
    campaign_id = await strict.campaign()
    bearer = f"Bearer {strict.token(campaign_id, 'u1')}"
    assert_problem(
        await ask_pass(strict, campaign_id, authorization=bearer), 401, "IDENTITY_INVALID"
    )


async def test_a_device_campaign_needs_a_device(strict: Served) -> None:
    """Without X-Device-Id 400; the device that counts is the one of the pass."""
    campaign_id = await strict.campaign(per_device=1, quota=5)
    body = assert_problem(await ask_pass(strict, campaign_id, **identity()), 400, "INVALID_REQUEST")
    assert "X-Device-Id" in body["detail"]
    empty = await ask_pass(strict, campaign_id, x_device_id="", **identity())
    assert_problem(empty, 400, "INVALID_REQUEST")
    for user, expected in [("u1", "GRANTED"), ("u2", "DEVICE_LIMIT")]:
        issued = await ask_pass(strict, campaign_id, x_device_id="phone-1", **identity(user))
        bearer = {"authorization": f"Bearer {issued.json()['pass']}", "x-device-id": user}
        grab = await strict.http.post(f"/v1/campaigns/{campaign_id}/grabs", headers=bearer)
        assert grab.json().get("code", "GRANTED") == expected


async def test_a_device_id_has_its_form(strict: Served) -> None:
    """A device id with other characters, or too long, is 400 also where none is needed."""
    campaign_id = await strict.campaign()
    for device in ("a b", "a,b", "x" * 65, "é"):
        headers: Any = {**identity(), "x-device-id": device.encode("latin-1")}
        response = await strict.http.post(f"/v1/campaigns/{campaign_id}/passes", headers=headers)
        assert_problem(response, 400, "INVALID_REQUEST")


async def test_passes_of_campaigns_that_are_not_there(strict: Served) -> None:
    """Unknown is 404 (after the identity), malformed is 400, over for ten minutes is 409."""
    assert_problem(await ask_pass(strict, "nobody-knows"), 401, "IDENTITY_INVALID")
    unknown = await ask_pass(strict, "nobody-knows", **identity())
    assert_problem(unknown, 404, "CAMPAIGN_NOT_FOUND")
    malformed = await ask_pass(strict, "Not_One", **identity())
    assert_problem(malformed, 400, "INVALID_REQUEST")
    over = await strict.campaign(rounds=[(-HOUR_MS, -AFTER_END_MS - 1, 1)])
    assert_problem(await ask_pass(strict, over, **identity()), 409, "ENDED")
    just = await strict.campaign(rounds=[(-HOUR_MS, -AFTER_END_MS + 60_000, 1)])
    assert (await ask_pass(strict, just, **identity())).status_code == 201


async def test_without_identity_there_are_no_passes(bare: Served) -> None:
    """Where no identity is configured asking for a pass is 503, and an identity opens nothing."""
    campaign_id = await bare.campaign()
    response = await ask_pass(bare, campaign_id, **identity())
    assert_problem(response, 503, "BACKEND_UNAVAILABLE")
    assert "retry-after" in response.headers
    shown = await bare.http.get(f"/v1/grabs/{campaign_id}-1", headers=identity())
    assert_problem(shown, 401, "PASS_INVALID")


# -- bearer and passes at the grab ---------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER ", "Bearer   "])
async def test_the_scheme_is_read_in_any_case(served: Served, scheme: str) -> None:
    """Scheme names have no case, and spaces after them are skipped (RFC 9110)."""
    campaign_id = await served.campaign()
    headers = {"authorization": scheme + served.token(campaign_id, "u1")}
    assert (await served.grab(campaign_id, headers=headers)).status_code == 201


@pytest.mark.parametrize(
    "form", ["{}", "Bearer{}", "Basic {}", "Bearer {} x", "Bearer {}.", "é {}"]
)
async def test_other_forms_of_a_pass_are_refused(served: Served, form: str) -> None:
    """Anything but `Bearer TOKEN` is 401, the same for all."""
    campaign_id = await served.campaign()
    header = form.format(served.token(campaign_id, "u1")).encode("latin-1")
    assert_problem(
        await served.grab(campaign_id, headers={"authorization": header}), 401, "PASS_INVALID"
    )


async def test_passes_that_do_not_count(served: Served) -> None:
    """Expired, of another key, of another campaign, changed, endless, absent."""
    campaign_id, other = await served.campaign(), await served.campaign()
    good = served.token(campaign_id, "u1")
    body, _, mac = good.rpartition("/")
    kid, _, payload = body.removeprefix("v1.").partition("/")
    bad = [
        served.token(campaign_id, "u1", valid_ms=0),
        f"v1.t2/{payload}/{mac}",
        f"v2.{kid}/{payload}/{mac}",
        f"v1.{kid}/{payload}/",
        f"v1.{kid}/{payload}0/{mac}",
        f"v1.{kid}/{payload}",
        "x" * 4000,
        identity()["authorization"].split()[1],
    ]
    for token in bad:
        response = await served.grab(campaign_id, headers={"authorization": f"Bearer {token}"})
        assert_problem(response, 401, "PASS_INVALID")
    bearer = {"authorization": f"Bearer {served.token(other, 'u1')}"}
    assert_problem(await served.grab(campaign_id, headers=bearer), 403, "PASS_OTHER_CAMPAIGN")
    no_header = await served.http.post(f"/v1/campaigns/{campaign_id}/grabs")
    assert_problem(no_header, 401, "PASS_INVALID")
    assert await served.facts(campaign_id) == []


@pytest.mark.parametrize(
    "key, good",
    [
        ("a", True),
        ("A-z0.9_~-", True),
        ("x" * 64, True),
        ("x" * 65, False),
        ("", False),
        ("a b", False),
        ("!abc", False),
        ("a,b", False),
        ("a;b", False),
        ("ä", False),
    ],
)
async def test_the_form_of_an_idempotency_key(served: Served, key: str, good: bool) -> None:
    """1 to 64 of A-Z a-z 0-9 . _ ~ -; never one that looks like the gateway's own."""
    campaign_id = await served.campaign()
    headers: Any = {"idempotency-key": key.encode("latin-1")}
    response = await served.grab(campaign_id, headers=headers)
    if good:
        assert response.status_code == 201
    else:
        assert_problem(response, 400, "IDEMPOTENCY_KEY_INVALID")


async def test_two_idempotency_keys_are_none(served: Served) -> None:
    """Which of two keys counts is not guessed."""
    campaign_id = await served.campaign()
    token = served.token(campaign_id, "u1")
    bearer = ("authorization", f"Bearer {token}")
    headers = [bearer, ("idempotency-key", "a"), ("idempotency-key", "b")]
    response = await served.http.post(f"/v1/campaigns/{campaign_id}/grabs", headers=headers)
    assert_problem(response, 400, "IDEMPOTENCY_KEY_INVALID")
