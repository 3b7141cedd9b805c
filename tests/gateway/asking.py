"""Asking a gateway over HTTP, as several test modules do it."""

import time
from typing import Any

import httpx2
import jwt

from tests.gateway.serving import IDENTITY_KEY, Served

ORIGIN = "https://shop.example"
"""The one origin that the `strict` gateway lists."""


def identity(user: str = "u1", **changes: Any) -> dict[str, str]:
    """The header of the shop's token."""
    claims: dict[str, Any] = {
        "sub": user, "exp": int(time.time()) + 60, "aud": "flashgrab", "iss": "shop", **changes,
    }  # fmt: skip
    return {"authorization": f"Bearer {jwt.encode(claims, IDENTITY_KEY, algorithm='HS256')}"}


def assert_problem(response: httpx2.Response, status: int, code: str) -> Any:
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert (response.status_code, body["status"], body["code"]) == (status, status, code)
    return body


async def ask_pass(served: Served, campaign_id: str, **headers: str) -> httpx2.Response:
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return await served.http.post(f"/v1/campaigns/{campaign_id}/passes", headers=headers)
