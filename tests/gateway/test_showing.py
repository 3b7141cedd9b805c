"""What the shop's own backend may ask, receipts, and sign-in by a file of keys, over HTTP."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest

from flashgrab import keys
from flashgrab.alarms import Alarm
from flashgrab.jwks import read_keys
from flashgrab.receipts import Receipt, new_key, verify
from tests.gateway.asking import ask_pass, assert_problem, identity
from tests.gateway.serving import Served, serving, until
from tests.keys_of_logins import ed25519, jwk, jwks, token
from tests.lua.server import Valkey

pytestmark = pytest.mark.anyio

TOKEN = "till-" + "t" * 40
SHOP = {"authorization": f"Bearer {TOKEN}"}
RECEIPT_KEY = new_key("r1")


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("login") / "jwks.json"
    path.write_bytes(jwks(jwk(ed25519("a"), "e1")))
    return path


@pytest.fixture(scope="module")
async def shop(redis_server: Valkey, key_file: Path, anyio_backend: str) -> AsyncIterator[Served]:
    """A gateway with everything of this on, and no shared secret."""
    changes: dict[str, Any] = {
        "demo": False,
        "identity_key": "",
        "identity_jwks": str(key_file),
        "shop_tokens": f"till:{sha256(TOKEN.encode()).hexdigest()}",
        "receipt_key": RECEIPT_KEY,
    }
    async with serving(redis_server.url, **changes) as gateway:
        yield gateway


async def ask(served: Served, query: str, headers: dict[str, str] | None = None) -> httpx2.Response:
    return await served.http.get(f"/v1/grabs{query}", headers=SHOP if headers is None else headers)


def somebody() -> str:
    """A user whom no other test knows: the server, and so its campaigns, is shared."""
    return "u" + secrets.token_hex(6)


def signed_in(user: str = "u1", kid: str = "e1", name: str = "a") -> dict[str, str]:
    return {"authorization": f"Bearer {token(ed25519(name), kid, sub=user)}"}


# -- the shop's own backend ------------------------------------------------------------------------


async def test_the_shop_sees_all_grants_of_a_user(shop: Served) -> None:
    """Over all campaigns or of one, with the states that the owner sees; of nobody else."""
    one, two, other = [await shop.campaign(per_user=2) for _ in range(3)]
    anna = somebody()
    for campaign_id, user in ((one, anna), (one, anna), (two, anna), (other, "bert")):
        assert (await shop.grab(campaign_id, user)).status_code == 201
    assert await shop.store.settle(two, 1, 1, "") == 0
    await shop.gateway.catalogue.refresh(two)
    back = (await shop.store.holder(one, anna)).replace(",g,", ",r,", 1)
    await shop.store._redis.hset(keys.holders(one), anna, back)
    answer = await ask(shop, f"?user={anna}")
    assert answer.headers["cache-control"] == "no-store"
    assert set(answer.json()) == {"user_id", "grabs", "not_warmed"}
    assert answer.json()["user_id"] == anna
    assert not {one, two, other} & set(answer.json()["not_warmed"])
    expected = {
        f"{one}-1": {"campaign_id": one, "serial": 1, "round": 1, "state": "RETURNED"},
        f"{one}-2": {"campaign_id": one, "serial": 2, "round": 1, "state": "GRANTED"},
        f"{two}-1": {"campaign_id": two, "serial": 1, "round": 1, "state": "PERSISTED"},
    }
    grabs = answer.json()["grabs"]
    assert {grab.pop("grab_id"): grab for grab in grabs} == expected
    of_two = (await ask(shop, f"?user={anna}&campaign={two}")).json()
    assert [grab["grab_id"] for grab in of_two["grabs"]] == [f"{two}-1"]
    assert (await ask(shop, f"?user={anna}&campaign={other}")).json()["grabs"] == []
    assert (await ask(shop, f"?user={somebody()}")).json()["grabs"] == []
    for name, body in expected.items():
        shown = await ask(shop, f"/{name}?user={anna}")
        assert (shown.json()["state"], shown.status_code) == (body["state"], 200)


async def test_the_shop_accepts_a_coupon_of_its_owner_only(shop: Served) -> None:
    """With the right user 200, with another one 404, without a user 400."""
    campaign_id = await shop.campaign()
    name = (await shop.grab(campaign_id, "anna")).json()["grab_id"]
    body = (await ask(shop, f"/{name}?user=anna")).json()
    assert set(body) == {"grab_id", "state", "serial", "round"}
    assert_problem(await ask(shop, f"/{name}?user=bert"), 404, "GRAB_NOT_FOUND")
    assert_problem(await ask(shop, f"/{campaign_id}-2?user=anna"), 404, "GRAB_NOT_FOUND")
    assert_problem(await ask(shop, "/nobody-knows-1?user=anna"), 404, "GRAB_NOT_FOUND")
    for query in ("", "?user=", "?user=a%20b", "?user=anna&user=bert"):
        problem = assert_problem(await ask(shop, f"/{name}{query}"), 400, "INVALID_REQUEST")
        assert "user=ID" in problem["detail"]


async def test_only_the_shop_may_ask_so(shop: Served, served: Served) -> None:
    """No, a wrong, a cut token, a pass, an identity token, the digest: 401, whatever is asked."""
    campaign_id = await shop.campaign()
    name = (await shop.grab(campaign_id, "anna")).json()["grab_id"]
    digest = sha256(TOKEN.encode()).hexdigest()
    of_anna = f"Bearer {shop.token(campaign_id, 'anna')}"
    wrong = ["", "Bearer", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", f"Bearer {digest}"]
    wrong += [f"Basic {TOKEN}", of_anna, signed_in("anna")["authorization"]]
    for authorization in wrong:
        for query in ("?user=anna", "?user=a%20b", ""):
            refused = await ask(shop, query, {"authorization": authorization})
            assert_problem(refused, 401, "IDENTITY_INVALID")
            assert refused.headers["www-authenticate"] == "Bearer"
    assert_problem(await ask(served, "?user=anna"), 401, "IDENTITY_INVALID")
    assert_problem(await ask(served, f"/{name}?user=anna"), 401, "PASS_INVALID")
    bert = {"authorization": f"Bearer {shop.token(campaign_id, 'bert')}"}
    assert_problem(await ask(shop, f"/{name}?user=anna", bert), 404, "GRAB_NOT_FOUND")
    assert_problem(await ask(shop, f"/{name}?user=anna", signed_in("bert")), 404, "GRAB_NOT_FOUND")


async def test_a_shops_token_gets_no_pass(shop: Served) -> None:
    """Who may look may not grab, nor become a user."""
    campaign_id = await shop.campaign()
    assert_problem(await ask_pass(shop, campaign_id, **SHOP), 401, "IDENTITY_INVALID")
    grab = await shop.http.post(f"/v1/campaigns/{campaign_id}/grabs", headers=SHOP)
    assert_problem(grab, 401, "PASS_INVALID")


@pytest.mark.parametrize(
    "query",
    ["", "?user=", "?user=a%20b", f"?user={'u' * 65}", "?user=a&user=b", "?user=a&campaign=",
     "?user=a&campaign=No!", "?user=a&campaign=x&campaign=y", "?user=a%00", "?user=%FF"],
)  # fmt: skip
async def test_a_wrong_question_is_400(shop: Served, query: str) -> None:
    """One user, at most one campaign, both of their forms."""
    assert_problem(await ask(shop, query), 400, "INVALID_REQUEST")


async def test_what_may_be_forgotten_is_not_denied(shop: Served) -> None:
    """A campaign that is not confirmed for this server: named, not passed over in silence."""
    campaign_id, carl, dora = await shop.campaign(), somebody(), somebody()
    assert (await shop.grab(campaign_id, carl)).status_code == 201
    await shop.set(campaign_id, {"run": "another"})
    try:
        assert campaign_id in (await ask(shop, f"?user={dora}")).json()["not_warmed"]
        assert_problem(await ask(shop, f"?user={dora}&campaign={campaign_id}"), 503, "NOT_WARMED")
        assert_problem(await ask(shop, f"/{campaign_id}-1?user={dora}"), 503, "NOT_WARMED")
        known = (await ask(shop, f"?user={carl}")).json()
        assert [grab["grab_id"] for grab in known["grabs"]] == [f"{campaign_id}-1"]
        assert campaign_id not in known["not_warmed"]
        assert_problem(await ask(shop, f"?user={carl}&campaign=none"), 404, "CAMPAIGN_NOT_FOUND")
    finally:
        await shop.set(campaign_id, {"run": await shop.store.run_id()})


# -- receipts --------------------------------------------------------------------------------------


async def test_the_owner_gets_a_receipt_that_anybody_can_check(shop: Served) -> None:
    """By pass and by sign-in; true to the body; by the keys that the gateway tells."""
    campaign_id = await shop.campaign()
    name = (await shop.grab(campaign_id, "anna")).json()["grab_id"]
    told = await shop.http.get("/v1/receipt-keys")
    assert told.headers["cache-control"] == "public, max-age=300"
    assert RECEIPT_KEY.partition(":")[2] not in told.text
    known = read_keys(told.content)
    of_pass = {"authorization": f"Bearer {shop.token(campaign_id, 'anna')}"}
    for headers in (of_pass, signed_in("anna")):
        shown = (await ask(shop, f"/{name}", headers)).json()
        said = verify(shown["receipt"], known)
        assert said is not None
        now_s = shop.gateway.clock.now_ms() // 1000
        assert said == Receipt(name, "anna", 1, 1, "GRANTED", said.at_s)
        assert 0 <= now_s - said.at_s < 60
    assert "receipt" not in (await shop.grab(campaign_id, "bert")).json()


async def test_a_receipt_is_nobodys_credential(shop: Served) -> None:
    """Sent as a pass, as an identity, as the shop's token: 401."""
    campaign_id = await shop.campaign()
    name = (await shop.grab(campaign_id, "anna")).json()["grab_id"]
    of_pass = {"authorization": f"Bearer {shop.token(campaign_id, 'anna')}"}
    receipt = (await ask(shop, f"/{name}", of_pass)).json()["receipt"]
    headers = {"authorization": f"Bearer {receipt}"}
    assert_problem(await ask(shop, f"/{name}?user=anna", headers), 401, "PASS_INVALID")
    assert_problem(await ask(shop, "?user=anna", headers), 401, "IDENTITY_INVALID")
    assert_problem(await ask_pass(shop, campaign_id, **headers), 401, "IDENTITY_INVALID")


async def test_without_a_key_there_are_no_receipts(served: Served) -> None:
    """Off by default, and the list of keys is empty."""
    campaign_id = await served.campaign()
    name = (await served.grab(campaign_id, "anna")).json()["grab_id"]
    shown = await ask(served, f"/{name}", identity("anna"))
    assert set(shown.json()) == {"grab_id", "state", "serial", "round"}
    assert (await served.http.get("/v1/receipt-keys")).json() == {"keys": []}


# -- sign-in by a file of keys ---------------------------------------------------------------------


async def test_a_rotation_reaches_a_running_gateway(shop: Served, key_file: Path) -> None:
    """A new key is taken without a restart; a broken file is an alarm and changes nothing."""
    campaign_id, one = await shop.campaign(), jwks(jwk(ed25519("a"), "e1"))
    two = jwks(jwk(ed25519("a"), "e1"), jwk(ed25519("b"), "e2"))

    async def codes() -> list[int]:
        asked = [signed_in(), signed_in("u2", "e2", "b")]
        return [(await ask_pass(shop, campaign_id, **h)).status_code for h in asked]

    def is_on() -> bool:
        return shop.metrics.alarms.is_on(Alarm.LOGIN_KEYS)

    assert await codes() == [201, 401]
    try:
        await asyncio.to_thread(key_file.write_bytes, two[:-9])
        await until("the alarm", is_on)
        assert await codes() == [201, 401]
        await asyncio.to_thread(key_file.write_bytes, two)
        await until("its end", lambda: not is_on())
        assert await codes() == [201, 201]
    finally:
        await asyncio.to_thread(key_file.write_bytes, one)
    login_keys = shop.gateway.identity.file
    await until("the old file", lambda: login_keys and len(login_keys.keys) == 1)


async def test_a_file_without_keys_is_no_401(redis_server: Valkey, tmp_path: Path) -> None:
    """Where no key was ever read nobody is told that his token is bad; grabs go on."""
    path = tmp_path / "none"
    async with serving(
        redis_server.url, demo=False, identity_key="", identity_jwks=str(path)
    ) as one:
        campaign_id = await one.campaign()
        assert one.metrics.alarms.is_on(Alarm.LOGIN_KEYS)
        refused = await ask_pass(one, campaign_id, **signed_in())
        assert_problem(refused, 503, "BACKEND_UNAVAILABLE")
        assert (await one.grab(campaign_id)).status_code == 201
