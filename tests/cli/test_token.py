"""`flashgrab token …` against a real centre: what it prints, how it ends."""

import json

import httpx2
import pytest

from flashgrab.cli.campaigns import sign_in_link
from tests.centre.serving import ADMIN_TOKEN
from tests.cli.conftest import CENTRE
from tests.cli.ran import Ran, Run, ran

pytestmark = CENTRE


@pytest.fixture
def run(
    centre_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs a command in this process against the centre, as the root or with a token."""
    monkeypatch.setenv("FLASHGRAB_CENTRE_URL", centre_url)

    def call(*arguments: str, token: str = ADMIN_TOKEN) -> Ran:
        monkeypatch.setenv("FLASHGRAB_ADMIN_TOKEN", token)
        return ran(capsys, *arguments)

    return call


def test_a_token_from_its_making_to_its_end(run: Run) -> None:
    """stdout has the token alone; it works by its role, stands in the log, and is revoked."""
    made = run("token", "create", "--role", "operator", "--name", "ann", "--valid", "90d")
    token = made.out.strip()
    assert (made.status, len(made.out.splitlines()), token in made.err) == (0, 1, False)
    assert run("campaign", "list", token=token).status == 0
    refused = run("campaign", "pause", "none", token=token)
    assert (refused.status, "there is no campaign none" in refused.err) == (2, True)
    forbidden = run("token", "list", token=token)
    line = "flashgrab: role operator may not do this; it is for admin\n"
    assert (forbidden.status, forbidden.err) == (2, line)

    listed = json.loads(run("token", "list", "--json").out)["tokens"]
    (ann,) = [one for one in listed if one["name"] == "ann"]
    assert (ann["role"], ann["made_by"], ann["ended_at"]) == ("operator", "root", None)
    assert ann["id"] in run("token", "list").out
    logged = json.loads(run("token", "log", "--name", "ann", "--json").out)["entries"]
    assert [(one["target"], one["code"]) for one in logged] == [("none", "CAMPAIGN_NOT_FOUND")]
    assert "CAMPAIGN_NOT_FOUND" in run("token", "log").out

    assert "ann is over" in run("token", "revoke", ann["id"]).out
    assert run("campaign", "list", token=token).status == 2


def test_a_sign_in_link_is_printed(run: Run, centre_url: str) -> None:
    """The address of the page, with the secret in the fragment; `up` gets one as well."""
    link = run("token", "sign-in")
    assert (link.status, link.out.startswith(f"{centre_url}/ops#fgl_")) == (0, True)
    shown = {"link": link.out.strip().partition("#")[2]}
    assert httpx2.post(f"{centre_url}/ops/session", json=shown).status_code == 201
    assert (sign_in_link(centre_url, ADMIN_TOKEN) or "").startswith(f"{centre_url}/ops#fgl_")
    assert sign_in_link(centre_url, "x" * 32) is None


@pytest.mark.parametrize(
    "arguments",
    [
        ["create", "--role", "king", "--name", "ann"],
        ["create", "--role", "viewer", "--name", "a b"],
        ["create", "--role", "viewer", "--name", "ann", "--valid", "ever"],
        ["revoke", "../x"],
        ["revoke", "0123456789abcdef"],
        ["log", "--limit", "0"],
    ],
    ids=" ".join,
)
def test_wrong_use_is_one_line(run: Run, arguments: list[str]) -> None:
    """Exit 2, the reason on the last line of stderr, no traceback."""
    ended = run("token", *arguments)
    assert (ended.status, ended.out) == (2, "")
    assert "Traceback" not in ended.err
    assert ended.err.splitlines()[-1].startswith("flashgrab: ")


def test_a_read_only_link_for_colleagues(run: Run) -> None:
    """The link alone on stdout; it opens the console's data and no call of the API."""
    made = run("token", "view-link", "--valid", "8h")
    assert made.status == 0
    page, _, query = made.out.strip().partition("?")
    assert page.endswith("/ops")
    assert query.startswith("view=fgv_root_")
    base = page.removesuffix("/ops")
    assert httpx2.get(f"{base}/ops/campaigns?{query}").status_code == 200
    assert httpx2.get(f"{base}/v1/campaigns?{query}").status_code == 401
    assert run("token", "view-link", "--valid", "30d").status == 2
