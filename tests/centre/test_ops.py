"""/ops: signing in by a one-time link, the session's cookie, and what other sites cannot do."""

import re
from collections.abc import AsyncIterator

import httpx2
import pytest

from centre.console.files import PAGE
from flashgrab.ledger import staff
from flashgrab.ledger.staff import LINK_MS, SESSION_MS
from flashgrab.staff import Role
from tests.centre.serving import (
    Served,
    Servers,
    StillClock,
    both_sides,
    client,
    operation,
    ready,
    serving,
)
from tests.centre.test_staff import holding, last, token

pytestmark = pytest.mark.anyio


async def link(served: Served) -> str:
    """A fresh one of the root's, as it stands in the fragment."""
    made = await served.post("/v1/sign-ins")
    assert made.status_code == 201, made.text
    return str(made.json()["path"]).partition("#")[2]


@pytest.fixture
async def browser(served: Served) -> AsyncIterator[httpx2.AsyncClient]:
    """Keeps cookies, has no token."""
    async with client(served.base_url) as http:
        yield http


async def test_a_link_signs_in_once(served: Served, browser: httpx2.AsyncClient) -> None:
    """The second use is refused; the cookie is for no script and no other site."""
    shown = {"link": await link(served)}
    signed = await browser.post("/ops/session", json=shown)
    assert (signed.status_code, signed.json()["name"], signed.json()["role"]) == (
        201,
        "root",
        "admin",
    )
    cookie = signed.headers["set-cookie"]
    assert re.match(r"flashgrab=fgs_\w", cookie)
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie  # a loopback address without TLS
    assert (await browser.get("/ops/session")).json() == signed.json()
    assert (await browser.get("/v1/campaigns")).status_code == 200
    async with client(served.base_url) as other:
        again = await other.post("/ops/session", json=shown)
        assert (again.status_code, again.json()["code"]) == (401, "TOKEN_INVALID")
        assert (await other.get("/ops/session")).status_code == 401


async def test_a_write_by_cookie_needs_our_pages_token(
    served: Served, browser: httpx2.AsyncClient
) -> None:
    """Without it, or with another one, 403; with it the write is the session's in the log."""
    csrf = (await browser.post("/ops/session", json={"link": await link(served)})).json()["csrf"]
    pause = f"/v1/campaigns/{await served.created(publish=True)}/pause"
    for wrong in ({}, {"x-csrf-token": ""}, {"x-csrf-token": csrf[:-1] + "g"}):
        refused = await browser.post(pause, headers={"idempotency-key": operation()} | wrong)
        assert (refused.status_code, refused.json()["code"]) == (403, "CSRF_INVALID")
    headers = {"idempotency-key": operation(), "x-csrf-token": csrf}
    assert (await browser.post(pause, headers=headers)).status_code == 200
    assert (await last(served))["name"] == "root"
    assert (await last(served))["credential"] != "root"
    # nor can a session make itself another one
    headers["idempotency-key"] = operation()
    assert (await browser.post("/v1/sign-ins", headers=headers)).status_code == 403


async def test_signing_out_ends_the_session(served: Served, browser: httpx2.AsyncClient) -> None:
    """For whoever kept the cookie, too; and not without our page's token."""
    signed = await browser.post("/ops/session", json={"link": await link(served)})
    cookie = signed.cookies["flashgrab"]
    assert (await browser.delete("/ops/session")).status_code == 403
    out = await browser.delete("/ops/session", headers={"x-csrf-token": signed.json()["csrf"]})
    assert out.status_code == 200
    async with client(served.base_url, cookies={"flashgrab": cookie}) as thief:
        assert (await thief.get("/ops/session")).status_code == 401
        assert (await thief.get("/v1/campaigns")).status_code == 401


async def test_a_session_ends_with_its_token(served: Served, browser: httpx2.AsyncClient) -> None:
    """It has the token's name and role, and revoking the token ends it."""
    made = await token(served, Role.VIEWER, "vera")
    async with holding(served, made["token"]) as http:
        answer = await http.post("/v1/sign-ins", headers={"idempotency-key": operation()})
    shown = answer.json()["path"].partition("#")[2]
    signed = (await browser.post("/ops/session", json={"link": shown})).json()
    assert (signed["name"], signed["role"]) == ("vera", "viewer")
    assert signed["expires_at"] == made["expires_at"]  # an hour, less than a session's 12
    await served.post(f"/v1/tokens/{made['id']}/revoke")
    assert (await browser.get("/v1/campaigns")).status_code == 401


async def test_links_and_sessions_have_an_end(migrated: Servers) -> None:
    """10 minutes and 12 hours, to the millisecond."""
    async with both_sides(migrated) as sides:
        clock = StillClock()
        root = staff.Holder("root", "token", "root", Role.ADMIN, 2**53)
        made, expires_ms = await staff.create_link(sides.pool, root, clock.at_ms)
        assert expires_ms == clock.at_ms + LINK_MS
        assert await staff.sign_in(sides.pool, made, expires_ms) is None
        signed = await staff.sign_in(sides.pool, made, expires_ms - 1)
        assert signed is not None
        session, holder = signed
        assert holder.expires_ms == expires_ms - 1 + SESSION_MS
        assert await staff.find(sides.pool, session, holder.expires_ms - 1) == holder
        assert await staff.find(sides.pool, session, holder.expires_ms) is None


async def test_another_site_cannot_sign_somebody_in(
    served: Served, browser: httpx2.AsyncClient
) -> None:
    """What a form or a simple request can send is not read."""
    body = f'{{"link": "{await link(served)}"}}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        headers = {"content-type": kind} if kind else {}
        answer = await browser.post("/ops/session", content=body.encode(), headers=headers)
        assert answer.status_code == 415
    assert "set-cookie" not in answer.headers


async def test_the_page_is_for_everybody_and_runs_nothing_foreign(
    browser: httpx2.AsyncClient,
) -> None:
    """One page without a secret; its policy allows its own script and no frame."""
    page = await browser.get("/ops")
    assert (page.status_code, page.text) == (200, PAGE)
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["referrer-policy"] == "no-referrer"


async def test_behind_tls_cookies_are_secure(migrated: Servers) -> None:
    """With an https address of the centre the link has it, and the cookie is the origin's own."""
    async with serving(migrated, host="0.0.0.0", centre_url="https://ops.example/") as public:
        await ready(public)
        made = (await public.post("/v1/sign-ins")).json()
        assert made["url"] == "https://ops.example" + made["path"]
        shown = {"link": made["path"].partition("#")[2]}
        signed = await public.http.post("/ops/session", json=shown)
        cookie = signed.headers["set-cookie"]
        assert cookie.startswith("__Host-flashgrab=fgs_")
        assert {"Secure", "HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))


async def test_a_loopback_address_that_is_passed_on_needs_no_tls(migrated: Servers) -> None:
    """A centre in a container listens for other containers; staff types this machine's loopback."""
    async with serving(migrated, host="0.0.0.0", centre_url="http://127.0.0.1:8001") as inside:
        await ready(inside)
        made = (await inside.post("/v1/sign-ins")).json()
        assert made["url"] == "http://127.0.0.1:8001" + made["path"]
        shown = {"link": made["path"].partition("#")[2]}
        assert (await inside.http.post("/ops/session", json=shown)).status_code == 201
    async with serving(migrated, host="0.0.0.0", centre_url="http://ops.example") as outside:
        await ready(outside)
        assert (await outside.post("/v1/sign-ins")).status_code == 403


async def test_where_others_reach_it_pages_need_tls(migrated: Servers) -> None:
    """With a public HOST and no TLS nobody signs in; tokens work."""
    async with serving(migrated, host="0.0.0.0") as public:
        await ready(public)
        refused = await public.post("/v1/sign-ins")
        assert (refused.status_code, refused.json()["code"]) == (403, "SIGN_IN_NEEDS_TLS")
        refused = await public.http.post("/ops/session", json={"link": "x"})
        assert (refused.status_code, refused.json()["code"]) == (403, "SIGN_IN_NEEDS_TLS")
        assert (await public.http.get("/v1/campaigns")).status_code == 200
