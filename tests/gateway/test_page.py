"""The buyer's pages over HTTP: cacheable, free of anything foreign, free for Redis, and a form."""

import asyncio
import json
import re
import time
from collections.abc import Iterator
from html.parser import HTMLParser

import httpx2
import pytest

from flashgrab.outcomes import Outcome
from gateway.page_files import FILES, TEMPLATES, VERSION, WORDS
from tests.browser.sales import Sales, selling
from tests.gateway.asking import identity
from tests.gateway.serving import Served, until
from tests.lua.server import Valkey, valkey

pytestmark = pytest.mark.anyio

VIEWS = 10_000
AT_ONCE = 20
"""Views that are asked for before an answer is read."""
IDLE_S = 2.0
BACKGROUND_TIMES, BACKGROUND_MORE = 2, 60
"""How much more often than in its idle time a gateway may run its own commands: the machine is
busy, and its turns are not even."""
FOREIGN = re.compile(r"https?://(?!www\.w3\.org/2000/svg)")


@pytest.fixture(scope="module")
def redis_server() -> Iterator[Valkey]:
    """One of its own: the first page lists everything that is there."""
    with valkey(tcp=True) as running:
        yield running


class Page(HTMLParser):
    """What matters of a page: its elements with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def fields(self) -> dict[str, str]:
        """The hidden fields of its form."""
        found = [a for tag, a in self.elements if tag == "input" and a.get("type") == "hidden"]
        return {str(a["name"]): a.get("value") or "" for a in found}


async def listed(served: Served, campaign_id: str) -> str:
    """The first page where this campaign is on it, else ""; it is made anew each second."""
    html = (await served.http.get("/")).text
    return html if f'href="/c/{campaign_id}"' in html else ""


# -- what is sent ----------------------------------------------------------------------------------


async def test_a_page_is_the_same_for_all_and_can_be_kept(served: Served) -> None:
    """ETag and Cache-Control; 304 for who has it; grabs do not change it."""
    campaign_id = await served.campaign(quota=2, name="A <b>sale</b>")
    await until("it is listed", lambda: listed(served, campaign_id))
    for path in ("/", f"/c/{campaign_id}", f"/c/{campaign_id}?lang=zh"):
        first = await served.http.get(path)
        assert first.status_code == 200
        assert first.headers["content-type"] == "text/html; charset=utf-8"
        assert re.fullmatch(r"public, max-age=\d+", first.headers["cache-control"])
        await served.grab(campaign_id, path[-3:].replace("/", "u").replace("=", ""))
        again = await served.http.get(path)
        assert (again.text, again.headers["etag"]) == (first.text, first.headers["etag"])
        kept = await served.http.get(path, headers={"if-none-match": first.headers["etag"]})
        assert (kept.status_code, kept.content) == (304, b"")
    assert "<b>sale" not in first.text
    assert "A &lt;b&gt;sale" in first.text
    assert 'lang="zh"' in first.text


async def test_a_page_lets_in_nothing_foreign(served: Served) -> None:
    """The policy allows our own files only; no template and no file needs more, or asks others."""
    page = await served.http.get(f"/c/{await served.campaign()}")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none';")
    assert "frame-ancestors 'none'" in policy
    assert not re.search(r"unsafe|\*|data:|https?:", policy)
    assert page.headers["x-content-type-options"] == "nosniff"
    for path in TEMPLATES.iterdir():
        html = path.read_text(encoding="utf-8")
        assert not FOREIGN.search(html), path
        for tag, attributes in Page(html).elements:
            assert tag != "style", path
            assert "style" not in attributes, path
            assert not any(name.startswith("on") for name in attributes), path
            assert tag != "script" or attributes.get("src"), path
    for name, file in FILES.items():
        if name != "challenge-worker.js":
            assert not FOREIGN.search(file.body.decode()), name


async def test_files_are_kept_for_ever_under_their_own_version(served: Served) -> None:
    """Every file, and every module that one imports; another version's address is not kept."""
    for name, file in FILES.items():
        answer = await served.http.get(f"/static/{VERSION}/{name}")
        assert (answer.status_code, answer.content) == (200, file.body)
        assert "immutable" in answer.headers["cache-control"]
        for imported in re.findall(r'from "\./([\w.-]+)"', file.body.decode()):
            assert imported in FILES
    other = await served.http.get(f"/static/{'0' * 16}/buyer.js")
    assert (other.status_code, other.headers["cache-control"]) == (200, "no-store")
    for path in (
        f"/static/{VERSION}/../page.py",
        f"/static/{VERSION}/none.js",
        "/static/x/page.css",
    ):
        assert (await served.http.get(path)).status_code == 404


async def test_pages_that_are_not_there_say_so_in_html(served: Served) -> None:
    """An unknown campaign is 404 for a moment only: it may be published soon."""
    for path in ("/c/none", "/c/NOT%20ONE"):
        answer = await served.http.get(path)
        assert answer.status_code == 404
        assert WORDS["en"]["CAMPAIGN_NOT_FOUND"] in answer.text
        assert answer.headers["cache-control"] == "public, max-age=1"


async def test_the_first_page_lists_what_is_for_everybody(served: Served) -> None:
    """Not what is for those with a link."""
    open_, secret = await served.campaign(), await served.campaign(audience="links")
    assert secret not in await until("it is listed", lambda: listed(served, open_))


def test_both_languages_say_the_same() -> None:
    """The same keys with the same gaps, and words for every outcome that a buyer can meet."""
    english, chinese = WORDS["en"], WORDS["zh"]
    assert english.keys() == chinese.keys()
    for key, text in english.items():
        gaps = re.findall(r"\{\w+\}", text)
        assert sorted(gaps) == sorted(re.findall(r"\{\w+\}", chinese[key])), key
    for outcome in Outcome:
        if outcome.value.status >= 400:
            assert outcome.name in english
            assert f"{outcome.name}.text" in english


def test_every_word_that_a_script_says_is_in_the_catalogue() -> None:
    """And no word is there that nobody says."""
    said = set()
    for name, file in FILES.items():
        if name.endswith(".js"):
            said |= set(re.findall(r'say\("([\w.]+)"', file.body.decode()))
    assert said
    assert said <= WORDS["en"].keys()
    code = "".join(file.body.decode() for name, file in FILES.items() if name.endswith(".js"))
    code += "".join(path.read_text(encoding="utf-8") for path in TEMPLATES.iterdir())
    code += (TEMPLATES.parent / "page.py").read_text() + (
        TEMPLATES.parent / "page_form.py"
    ).read_text()
    outcomes = {outcome.name for outcome in Outcome}
    for key in WORDS["en"].keys() - {"GRANTED", "PERSISTED", "RETURNED", "unknown.text"}:
        if key.removesuffix(".text") not in outcomes:
            assert f'"{key}"' in code or f"{{{{{key}}}}}" in code, key


# -- what it costs ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sales() -> Iterator[Sales]:
    with selling() as found:
        yield found


async def test_ten_thousand_views_cost_redis_nothing(sales: Sales) -> None:
    """10,000 times a campaign's page and its public state, 500 times what they share with others
    (lists and a file): no command but those that an idle gateway runs, and no more of them than
    it runs in the time."""
    campaign_id = sales.publish()
    paths = [f"/c/{campaign_id}", f"/v1/campaigns/{campaign_id}"]
    others = ["/", "/v1/campaigns", f"/static/{VERSION}/buyer.js"]
    begun, began_s = sales.commands(), time.monotonic()
    await asyncio.sleep(IDLE_S)
    between = sales.commands()
    idle_s, began_s = time.monotonic() - began_s, time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(sales.url.rpartition(":")[2]))
    at_once = paths * AT_ONCE + others
    asked = b"".join(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode() for path in at_once)
    try:
        for _ in range(VIEWS // AT_ONCE):
            writer.write(asked)
            for _ in at_once:
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 ")
                length = re.search(rb"content-length: (\d+)", head)
                assert length is not None
                await reader.readexactly(int(length[1]))
    finally:
        writer.close()
        await writer.wait_closed()
    took_s, after = time.monotonic() - began_s, sales.commands()
    idle = {name: count - begun.get(name, 0) for name, count in between.items()}
    spent = {name: count - between.get(name, 0) for name, count in after.items()}
    assert not {n for n, c in spent.items() if c} - {n for n, c in idle.items() if c} - {"info"}
    background = sum(idle.values()) * took_s / idle_s
    assert sum(spent.values()) <= BACKGROUND_TIMES * background + BACKGROUND_MORE, (spent, idle)
    assert sum(spent.values()) < VIEWS / 10


# -- when it sold out ------------------------------------------------------------------------------


async def test_the_state_tells_when_a_round_sold_out(served: Served) -> None:
    """From the call that gave the last coupon; no longer when there is stock again."""
    campaign_id = await served.campaign(quota=2)
    path = f"/v1/campaigns/{campaign_id}"
    await served.grab(campaign_id, "u1")
    assert "sold_out_at" not in (await served.http.get(path)).json()["rounds"][0]
    await served.grab(campaign_id, "u2")
    told = (await served.http.get(path)).json()["rounds"][0]["sold_out_at"]
    await served.grab(campaign_id, "u3")
    assert (await served.http.get(path)).json()["rounds"][0]["sold_out_at"] == told
    facts = await served.facts(campaign_id)
    assert told[11:23] == time.strftime("%H:%M:%S", time.gmtime(facts[-1][3] // 1000)) + (
        f".{facts[-1][3] % 1000:03d}"
    )
    await served.set(campaign_id, {"left": 1, "quota": 3}, round_=1)
    assert "sold_out_at" not in (await served.http.get(path)).json()["rounds"][0]


# -- without JavaScript ----------------------------------------------------------------------------


async def post(served: Served, campaign_id: str, **fields: str) -> httpx2.Response:
    return await served.http.post(f"/c/{campaign_id}/grab", data=fields)


async def test_the_form_grabs_in_two_steps(served: Served) -> None:
    """The first post answers a key, the second a coupon, and again the same one."""
    campaign_id = await served.campaign()
    asked = await post(served, campaign_id, user="ann")
    assert (asked.status_code, asked.headers["cache-control"]) == (200, "no-store")
    fields = Page(asked.text).fields()
    assert fields["key"]
    assert await served.facts(campaign_id) == []
    won = await post(served, campaign_id, **fields)
    assert won.status_code == 201
    assert f"{campaign_id}-1" in won.text
    again = await post(served, campaign_id, **fields)
    assert again.status_code == 200
    assert f"{campaign_id}-1" in again.text
    assert [(user, key) for user, _, key, _ in await served.facts(campaign_id)] == [
        ("ann", fields["key"])
    ]


async def test_the_form_tells_refusals_in_words(served: Served) -> None:
    """With the status of the API, and with a button where the same key may win later."""
    over, later = (
        await served.campaign(quota=1),
        await served.campaign(rounds=[(60_000, 120_000, 5)]),
    )
    await served.grab(over, "first")
    cases = [(over, 409, "SOLD_OUT", True), (later, 409, "NOT_STARTED", True)]
    for campaign_id, status, code, again in cases:
        fields = Page((await post(served, campaign_id, user="bob", lang="zh")).text).fields()
        answer = await post(served, campaign_id, **fields)
        assert answer.status_code == status
        assert WORDS["zh"][code] in answer.text
        assert (Page(answer.text).fields() == fields) is again
    mine = await served.campaign(quota=5)
    held = (await served.grab(mine, "ann")).json()["grab_id"]
    fields = Page((await post(served, mine, user="ann")).text).fields()
    assert held in (await post(served, mine, **fields)).text


async def test_the_form_keeps_its_key_where_there_is_no_answer(served: Served) -> None:
    """Not warmed, and a fault of ours: the button below asks again with the same key, in the
    form's own language, which the address need not name; also of a campaign that is not there."""
    campaign_id = await served.campaign()
    fields = Page((await post(served, campaign_id, user="ann", lang="zh")).text).fields()
    known = served.known(campaign_id)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(known, "state", None)
        cold = await post(served, campaign_id, **fields)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(served.gateway.memory, "decide", None)  # to call it raises
        broken = await post(served, campaign_id, **fields)
    for answer, code in ((cold, "NOT_WARMED"), (broken, "BACKEND_UNAVAILABLE")):
        assert answer.status_code == 503
        assert "retry-after" in answer.headers
        assert WORDS["zh"][code] in answer.text
        assert Page(answer.text).fields() == fields
    assert (await post(served, campaign_id, **fields)).status_code == 201
    assert WORDS["zh"]["CAMPAIGN_NOT_FOUND"] in (await post(served, "none", lang="zh")).text


async def test_the_form_believes_a_shops_token_and_nobody_else(strict: Served) -> None:
    """Where there is no demo a name is not enough; a token of the shop is."""
    campaign_id = await strict.campaign()
    assert 'name="user"' not in (await strict.http.get(f"/c/{campaign_id}")).text
    assert (await post(strict, campaign_id, user="ann")).status_code == 401
    assert (await post(strict, campaign_id, identity="x.y.z", key="k")).status_code == 401
    token = identity("ann")["authorization"].removeprefix("Bearer ")
    fields = Page((await post(strict, campaign_id, identity=token)).text).fields()
    assert fields["identity"] == token
    assert (await post(strict, campaign_id, **fields)).status_code == 201
    page = await strict.http.get(f"/c/{campaign_id}")
    assert json.dumps("https://shop.example") in page.text


async def test_the_form_has_bounds(served: Served) -> None:
    """Too large, unreadable, or for nothing: a page that says so."""
    campaign_id = await served.campaign()
    assert (await post(served, campaign_id, user="x" * 5000)).status_code == 413
    assert (await post(served, "none", user="ann")).status_code == 404
    many = {f"f{n}": "1" for n in range(50)}
    assert (await post(served, campaign_id, **many)).status_code == 200
