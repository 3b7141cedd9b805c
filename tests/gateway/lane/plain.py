"""Raw requests in the form that a browser sends, and with one thing changed."""

from collections.abc import Sequence

from tests.gateway.asking import ORIGIN
from tests.gateway.lane.world import token

Headers = Sequence[tuple[str, str]]

BROWSER: Headers = (
    ("Host", "shop.example"),
    ("Connection", "keep-alive"),
    ("Content-Length", "0"),
    ("sec-ch-ua-platform", '"Linux"'),
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/142.0.0.0"),
    ("sec-ch-ua", '"Chromium";v="142", "Not_A Brand";v="99"'),
    ("Accept", "*/*"),
    ("Sec-Fetch-Site", "same-origin"),
    ("Sec-Fetch-Mode", "cors"),
    ("Referer", "https://shop.example/c/open"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Accept-Language", "en-GB,en;q=0.9"),
)
"""Twelve, besides the two that a grab is made of."""
HOST: Headers = (("Host", "shop.example"),)


def raw(
    method: str = "POST",
    target: str = "/v1/campaigns/open/grabs",
    headers: Headers = HOST,
    version: str = "HTTP/1.1",
    body: bytes = b"",
) -> bytes:
    """A request as bytes; what is not ASCII goes out as latin-1."""
    lines = [f"{method} {target} {version}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def of_a_grab(
    user: str, campaign_id: str = "open", key: str | None = "", device: str = ""
) -> Headers:
    """Authorization, and an Idempotency-Key: the user's own by default, None for none."""
    found = [("Authorization", f"Bearer {token(campaign_id, user, device)}")]
    if key is not None:
        found.append(("Idempotency-Key", key or f"key-{user}"))
    return found


def grab(
    user: str,
    campaign_id: str = "open",
    key: str | None = "",
    *,
    browser: Headers = BROWSER,
    device: str = "",
    more: Headers = (),
) -> bytes:
    """The plain form: what the lane is for."""
    headers = [*browser, *of_a_grab(user, campaign_id, key, device), *more]
    return raw(target=f"/v1/campaigns/{campaign_id}/grabs", headers=headers)


def without(name: str, headers: Headers = BROWSER) -> list[tuple[str, str]]:
    """The headers but one."""
    return [pair for pair in headers if pair[0].lower() != name.lower()]


def changed(user: str, name: str, value: str) -> bytes:
    """A plain grab, one header of it (new or not) with another value."""
    return raw(headers=[*without(name, [*BROWSER, *of_a_grab(user)]), (name, value)])


REPLAY = grab("winner", key="win")
LIVEZ = raw("GET", "/livez")
FROM_THE_SHOP: Headers = (("Origin", ORIGIN),)
