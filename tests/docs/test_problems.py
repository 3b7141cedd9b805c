"""The problem catalogue: each code has its page, each page its code, and its words are true."""

import json
import re

import pytest

from centre.documents import ROUTES as CENTRE_ROUTES
from centre.problems import Code
from flashgrab.alarms import Alarm
from flashgrab.cli.app import COMMANDS, load
from flashgrab.docs.problems import BESIDES, COMMON, catalogue, code_of, slug_of
from flashgrab.measured import METRICS
from flashgrab.outcomes import Outcome
from flashgrab.settings import PREFIX, CentreSettings, GatewaySettings
from gateway.documents import ROUTES as GATEWAY_ROUTES
from tests.docs.conftest import Services
from tests.docs.shelf import links

GATEWAY_CODES = {o.name for o in Outcome if o.value.status >= 400}
CENTRE_CODES = {code.name for code in Code}
EVERY = sorted([("gateway", c) for c in GATEWAY_CODES] + [("centre", c) for c in CENTRE_CODES])
STACK = pytest.mark.xdist_group("stack")


def test_no_code_without_words_and_no_words_without_a_code() -> None:
    """Over the closed lists of both services; what both have has one status."""
    assert set(catalogue()) == GATEWAY_CODES | CENTRE_CODES
    for name in GATEWAY_CODES & CENTRE_CODES:
        assert Outcome[name].value.status == Code[name].value.status


@pytest.mark.parametrize("code", sorted(GATEWAY_CODES))
def test_what_a_buyer_meets_has_words_for_buyers(code: str) -> None:
    """The gateway's codes; and all words are whole sentences."""
    words = catalogue()[code]
    for text in (words.what, words.why, words.buyer, words.integrator, words.operator):
        assert re.fullmatch(r"[A-Z`].*[.!]", text), text


@pytest.mark.parametrize("code", sorted(CENTRE_CODES - GATEWAY_CODES))
def test_what_only_staff_meets_has_none_for_buyers(code: str) -> None:
    """The centre's own codes; and all words are whole sentences."""
    words = catalogue()[code]
    assert not words.buyer
    for text in (words.what, words.why, words.integrator, words.operator):
        assert re.fullmatch(r"[A-Z`].*[.!]", text), text


def test_slugs_and_codes_go_both_ways() -> None:
    """Each type that the services send is the address of its code's page."""
    for name in catalogue():
        assert code_of(slug_of(name)) == name
    assert code_of("SOLD-OUT") == code_of("sold_out") == ""
    assert [r.path for r in GATEWAY_ROUTES] == [r.path for r in CENTRE_ROUTES]


def test_commands_alarms_settings_and_metrics_in_the_words_exist() -> None:
    """Whatever the words put into code and that is one of these."""
    alarms = {alarm.anchor for alarm in Alarm}
    settings = {
        f"{PREFIX}{n.upper()}" for s in (GatewaySettings, CentreSettings) for n in s.model_fields
    }
    metrics = {f"{n}_total" if s.kind == "counter" else n for n, s in METRICS.items()}
    spans = [span for words in catalogue().values() for span in re.findall("`([^`]+)`", str(words))]
    said = {"alarms": 0, "commands": 0, "settings": 0, "metrics": 0}
    for span in spans:
        if re.fullmatch(r"[a-z]+(-[a-z]+)+", span):
            assert span in alarms, span
            said["alarms"] += 1
        elif span.startswith("flashgrab_"):
            assert span in metrics, span
            said["metrics"] += 1
        elif span.startswith(PREFIX):
            assert span in settings, span
            said["settings"] += 1
        elif span.startswith("flashgrab "):
            words = span.split()[1:]
            inner = getattr(load(words[0]), "commands", {}) if words[0] in COMMANDS else None
            assert inner is not None, span
            assert not inner or words[1] in inner, span
            said["commands"] += 1
    assert all(said.values()), said


@STACK
@pytest.mark.parametrize("service, code", EVERY)
def test_the_page_of_a_code(service: str, code: str, services: Services) -> None:
    """HTML, which shows status, code and an example body with every field explained."""
    answer = services[service].get(f"/problems/{slug_of(code)}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    status = (Outcome[code] if service == "gateway" else Code[code]).value.status
    assert f"<code>{status}</code> <code>{code}</code>" in answer.text
    (shown,) = re.findall(r"<pre[^>]*>(.*?)</pre>", answer.text, re.DOTALL)
    example = json.loads(shown.replace("&quot;", '"').replace("&#x27;", "'").replace("&amp;", "&"))
    assert example["type"] == f"/problems/{slug_of(code)}"
    assert (example["status"], example["code"]) == (status, code)
    fields = set(COMMON) | set(catalogue()[code].fields)
    assert set(example) - {"retry_after_ms", *BESIDES} == fields - {"retry_after_ms"}
    explained = re.findall(r"<dt><code>(\w+)</code></dt><dd>[^<]+</dd>", answer.text)
    assert set(explained) == {*example, *BESIDES}


@STACK
@pytest.mark.parametrize("service", ["gateway", "centre"])
def test_the_index_leads_to_all_and_to_no_other(service: str, services: Services) -> None:
    """And what is no code of the service is 404, as a problem whose type has a page."""
    http = services[service]
    index = http.get("/problems")
    pages = {link for link in links(index.text) if link.startswith("/problems/")}
    mine = GATEWAY_CODES if service == "gateway" else CENTRE_CODES
    assert pages == {f"/problems/{slug_of(code)}" for code in mine}
    others = (GATEWAY_CODES | CENTRE_CODES) - mine
    for odd in ("nothing", "SOLD-OUT", "sold_out", slug_of(min(others))):
        missing = http.get(f"/problems/{odd}")
        assert missing.status_code == 404
        assert http.get(missing.json()["type"]).status_code == 200


@STACK
def test_fields_of_real_refusals_are_those_of_the_catalogue(services: Services) -> None:
    """Refusals that are easy to get, from both services."""
    gateway, centre = services["gateway"], services["centre"]
    got = [
        gateway.post("/v1/campaigns/demo-1/grabs"),
        gateway.get("/v1/campaigns/none"),
        gateway.put("/v1/campaigns"),
        centre.get("/v1/campaigns"),
        centre.post("/livez"),
    ]
    for answer in got:
        assert answer.headers["content-type"] == "application/problem+json"
        body = answer.json()
        assert gateway.get(str(answer.url.join(body["type"]))).status_code == 200
        assert set(body) <= {*COMMON, *BESIDES} | set(catalogue()[body["code"]].fields)
