"""From an answer to the line in the log, and no secret in any of them."""

import json
import os
import secrets
import signal
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.e2e.buyers import Buyer
from tests.e2e.running import Stack, simple, until

pytestmark = [pytest.mark.xdist_group("observability")]


def lines(stack: Stack, part: str) -> list[dict[str, Any]]:
    """The part's log; each line is JSON."""
    text = (stack.data / "logs" / f"{part}.log").read_text()
    return [json.loads(line) for line in text.splitlines()]


def said(stack: Stack, part: str, request_id: str) -> list[dict[str, Any]]:
    return [line for line in lines(stack, part) if line.get("request_id") == request_id]


def manage(stack: Stack, path: str, **headers: str) -> httpx2.Response:
    """A management call."""
    token = stack.secrets()["FLASHGRAB_ADMIN_TOKEN"]
    head = {"authorization": f"Bearer {token}", "idempotency-key": secrets.token_hex(8), **headers}
    return httpx2.post(stack.centre_url + path, headers=head, timeout=10)


def test_a_management_call_leads_to_its_line(watched: Stack) -> None:
    """The client's id comes back and is in the log with who did what, and how it ended; an id of
    another form is not taken; a refusal has one, too."""
    campaign_id = watched.campaign(simple("followed", quota=5))
    path = f"/v1/campaigns/{campaign_id}/pause"
    done = manage(watched, path, **{"x-request-id": "follow-me.1"})
    assert (done.status_code, done.headers["x-request-id"]) == (200, "follow-me.1")
    (line,) = said(watched, "centre", "follow-me.1")
    assert line["event"] == "managed"
    assert (line["action"], line["target"]) == (
        "POST /v1/campaigns/{campaign_id}/pause",
        campaign_id,
    )
    assert (line["by"], line["status"], line["part"]) == ("root", 200, "centre")

    refused = manage(watched, "/v1/campaigns/nobody/pause", **{"x-request-id": "not an id\t!"})
    own = refused.headers["x-request-id"]
    assert (refused.status_code, refused.json()["request_id"]) == (404, own)
    assert own.startswith("r-")
    assert [line["status"] for line in said(watched, "centre", own)] == [404]

    stranger = httpx2.post(watched.centre_url + path)
    assert stranger.status_code == 401
    assert stranger.json()["request_id"] == stranger.headers["x-request-id"]


def test_a_failure_of_the_gateway_leads_to_its_line(watched: Stack) -> None:
    """Redis stands still: who asks for his coupon gets 503 with an id that the log has. An answer
    to a grab has none."""
    campaign_id = watched.campaign(simple("failing", quota=5))
    buyer = Buyer.enter(watched, campaign_id, "ann")
    granted = buyer.grab("k")
    assert "request_id" not in granted.json()
    assert "x-request-id" not in granted.headers
    url = f"{watched.gateway_url}/v1/grabs/{granted.json()['grab_id']}"
    head = {"authorization": f"Bearer {buyer.token}", "x-request-id": "where-is-it"}
    valkey = int(watched.run_json()["valkey"][0]["pid"])
    os.kill(valkey, signal.SIGSTOP)
    try:
        failed = httpx2.get(url, headers=head, timeout=20)
        nobodys = buyer.grab("other").json()
    finally:
        os.kill(valkey, signal.SIGCONT)
    assert (failed.status_code, failed.json()["request_id"]) == (503, "where-is-it")
    assert nobodys["code"] == "BACKEND_UNAVAILABLE"
    assert "request_id" not in nobodys
    (line,) = said(watched, "gateway", "where-is-it")
    assert (line["event"], line["status"], line["part"]) == ("request_failed", 503, "gateway")
    assert line["path"] == urlsplit(url).path
    until("it is over", lambda: watched.get(urlsplit(url).path, **head) is not None)


def test_no_secret_is_in_a_log(watched: Stack) -> None:
    """Of those that the stack has, and of those that people have shown it, right ones and wrong
    ones; the control is a word that is there."""
    campaign_id = watched.campaign(simple("discreet", quota=5))
    minted = httpx2.post(f"{watched.gateway_url}/demo/identity", json={"user_id": "eve"}).json()
    buyer = Buyer.enter(watched, campaign_id, "eve")
    assert buyer.grab("k").status_code == 201
    shown = {buyer.token, minted["token"], "wrong-" + "x" * 40}
    for token in shown:
        head = {"authorization": f"Bearer {token}"}
        httpx2.post(watched.centre_url + f"/v1/campaigns/{campaign_id}/pause", headers=head)
        httpx2.get(f"{watched.gateway_url}/v1/grabs/{campaign_id}-1", headers=head)
        httpx2.post(f"{watched.gateway_url}/v1/campaigns/{campaign_id}/passes", headers=head)
    assert manage(watched, f"/v1/campaigns/{campaign_id}/close").status_code == 200
    kept = {_bare(value) for value in watched.secrets().values()} - {""}
    assert len(kept) >= 5
    logs = {p.name: p.read_text() for p in (watched.data / "logs").glob("*.log")}
    assert len(logs) >= 7
    assert any("discreet" in text for text in logs.values())
    found = [(n, s[:4]) for s in kept | shown for n, text in logs.items() if s in text]
    assert found == []


def _bare(value: str) -> str:
    """The secret in a value of secrets.env: an URL's password, a key without its kid."""
    if "://" in value:
        return urlsplit(value).password or ""
    return value.rpartition(":")[2]
