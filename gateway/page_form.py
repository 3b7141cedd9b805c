"""POST /c/{campaign_id}/grab: the page without JavaScript.

Two steps, because the page itself can be cached and so can hold no idempotency key: the first post
answers an uncached page with a new key and one button, the second grabs with that key. Whoever
presses twice, goes back, or reloads sends the same key and gets the same coupon. (A key made of
user and campaign would need one step only, but could get nobody a second coupon where he may have
two, nor another one after a return.)

A shop posts its buyer's identity token to the first step from a form of its own.
"""

import secrets
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message

from flashgrab.ids import is_campaign_id, is_idempotency_key, is_user_id
from flashgrab.outcomes import Outcome
from gateway.gateway import Gateway, State
from gateway.page import HTML, PAGES, SAFE, language_of, refused
from gateway.page_files import WORDS, fill
from gateway.requests import read_body

FIELDS_MAX = 10
AGAIN = frozenset(
    (429, 503, *(o.value.status for o in (Outcome.NOT_STARTED, Outcome.PAUSED, Outcome.SOLD_OUT)))
)
"""Statuses after which the same key may win later."""
_OWN_HEADERS = (b"authorization", b"content-type", b"content-length", b"idempotency-key")


class Form(NamedTuple):
    """What was posted; "" for what was not."""

    identity: str
    user: str
    key: str
    claim: str
    lang: str


class Told(NamedTuple):
    """An answer of our own API."""

    status: int
    body: dict[str, Any]
    retry_after: str


async def grab_form(request: Request[State]) -> Response:
    """POST /c/{campaign_id}/grab: an uncached page, with the button or with the outcome."""
    gateway = request.state["gateway"]
    campaign_id = request.path_params["campaign_id"]
    body = await read_body(request)
    if isinstance(body, Outcome):
        return refused(language_of(request.query_params.get("lang")), body)
    form = _read(body)
    language = language_of(form.lang)
    campaign = gateway.catalogue.get(campaign_id)
    if campaign is None or not is_campaign_id(campaign_id):
        return refused(language, Outcome.CAMPAIGN_NOT_FOUND)
    form = _identified(gateway, form)
    if campaign.state is None:
        again = _again(language, form, campaign_id, WORDS[language]["again"])
        return refused(language, Outcome.NOT_WARMED, again)
    if not form.identity:
        return _page(language, Told(401, {"code": Outcome.IDENTITY_INVALID.name}, ""), campaign_id)
    if not is_idempotency_key(form.key):
        return _confirm(language, form, campaign_id, campaign.state.definition["name"])
    return _page(language, await _grab(request, campaign_id, form), campaign_id, form)


def _read(body: bytes) -> Form:
    try:
        fields = parse_qs(body.decode("ascii", "replace"), max_num_fields=FIELDS_MAX)
    except ValueError:
        fields = {}
    one = {name: values[0] for name, values in fields.items()}
    return Form(*(one.get(name, "") for name in Form._fields))


def _identified(gateway: Gateway, form: Form) -> Form:
    """With a token, where there is none and the demo gives one to anybody."""
    if form.identity or not gateway.demo:
        return form
    user = form.user if is_user_id(form.user) else "demo-" + secrets.token_hex(4)
    return form._replace(identity=gateway.identity.mint(user)[0], user=user)


async def _grab(request: Request[State], campaign_id: str, form: Form) -> Told:
    """Pass and grab by the ordinary routes, as any client would ask for them."""
    headers = {"authorization": f"Bearer {form.identity}"}
    if form.claim:
        headers["x-claim"] = form.claim
    told = await _ask(request, f"/v1/campaigns/{campaign_id}/passes", headers)
    if told.status != 201:
        return told
    headers = {"authorization": f"Bearer {told.body['pass']}", "idempotency-key": form.key}
    return await _ask(request, f"/v1/campaigns/{campaign_id}/grabs", headers)


async def _ask(request: Request[State], path: str, headers: dict[str, str]) -> Told:
    """One POST to this very application, for the buyer who posted the form."""
    given = [(n, v) for n, v in request.scope["headers"] if n not in _OWN_HEADERS]
    given += [(n.encode(), v.encode("latin-1", "replace")) for n, v in headers.items()]
    kept = ("type", "asgi", "http_version", "server", "client", "scheme", "state", "root_path")
    scope = {name: request.scope[name] for name in kept if name in request.scope}
    scope |= {"method": "POST", "path": path, "raw_path": path.encode(), "query_string": b""}
    scope["headers"] = given
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    try:
        await request.app(scope, receive, send)
    except Exception:
        if not sent:  # else it was answered before it was raised (503), and is in the log
            raise
    fields = dict(sent[0]["headers"])
    body = b"".join(message.get("body", b"") for message in sent[1:])
    retry_after = fields.get(b"retry-after", b"").decode()
    return Told(sent[0]["status"], orjson.loads(body), retry_after)


def _confirm(language: str, form: Form, campaign_id: str, name: str) -> Response:
    form = form._replace(key=secrets.token_urlsafe(16))
    words = WORDS[language]
    values = {
        "title": name,
        "text": words["plain.confirm"],
        "more": _again(language, form, campaign_id, words["grab"]),
    }
    return _html(fill("said", language, values), 200)


def _page(language: str, told: Told, campaign_id: str, form: Form | None = None) -> Response:
    """The outcome in words; where it may be another later, with a button that asks again."""
    words, code = WORDS[language], told.body.get("code", "")
    values = {"more": ""}
    if told.status in (200, 201):
        values["title"] = words["coupon.title"]
        values["text"] = words["coupon.keep"]
        values["more"] = fill("coupon", language, {"code": told.body["grab_id"]})
    else:
        values["title"] = words.get(code, words["unknown"])
        values["text"] = words.get(f"{code}.text", "")
        if form is not None and told.status in AGAIN and code not in _FINAL:
            values["more"] = _again(language, form, campaign_id, words["again"])
        if held := told.body.get("grab_ids"):
            values["more"] = "".join(fill("coupon", language, {"code": one}) for one in held)
    return _html(fill("said", language, values), told.status, told.retry_after)


_FINAL = frozenset(
    o.name for o in (Outcome.ENDED, Outcome.OFFLINE, Outcome.USER_LIMIT, Outcome.DEVICE_LIMIT)
)


def _again(language: str, form: Form, campaign_id: str, button: str) -> str:
    values = {**form._asdict(), "id": campaign_id, "button": button, "lang": language}
    return fill("again", language, values)


def _html(html: str, status: int, retry_after: str = "") -> Response:
    headers = {"Cache-Control": "no-store", **SAFE}
    if retry_after:
        headers["Retry-After"] = retry_after
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(html, status, headers, HTML)


PAGE_ROUTES = [*PAGES, Route("/c/{campaign_id}/grab", grab_form, methods=["POST"])]
