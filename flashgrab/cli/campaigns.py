"""Management of campaigns over the centre's HTTP, for `campaign`, `up` and whoever else needs it.

Every write carries an Idempotency-Key, and its own repeats reuse it: a lost answer never applies
a change twice.
"""

import random
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2

from flashgrab.cli.banner import Demo
from flashgrab.cli.failure import Failure, fail
from flashgrab.cli.target import has_tls, unreachable
from flashgrab.clock import from_rfc3339
from flashgrab.errors import DefinitionInvalid
from flashgrab.model import Definition, parse, parse_toml, to_plain

REPEAT_S_MAX = 10.0
"""How long a request is repeated while the centre does not answer, or answers 503."""
REQUEST_S_MAX = 8.0
LIST_S_MAX = 120.0
"""For a list of two million users, which the centre sorts and writes before it answers."""
PAUSE_S_MIN, PAUSE_S_MAX = 0.1, 1.0

DEMO_DELAY_S = 30
DEMO_QUOTA = 100
_DEMO_ID = re.compile(r"demo-([1-9][0-9]{0,8})")
_BY_UP = "up-"
"""How operation ids of `up` begin: a DRAFT with one is a publish that was cut off."""


class Refused(Exception):
    """The centre refused: `code` and `detail` of its problem, and the problem itself."""

    def __init__(self, problem: Mapping[str, Any]) -> None:
        super().__init__(str(problem.get("detail") or problem.get("title") or "refused"))
        self.code = str(problem.get("code", ""))
        self.problem = problem


class Centre:
    """The centre at an address. A request that gets no answer ends the command with exit 2."""

    def __init__(
        self,
        url: str,
        admin_token: str,
        *,
        repeat_s_max: float = REPEAT_S_MAX,
        transport: httpx2.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._url = url
        self._repeat_s_max = repeat_s_max
        self._sleep = sleep
        self._http = httpx2.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {admin_token}"},
            timeout=REQUEST_S_MAX,
            trust_env=False,
            verify=has_tls(url),
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._http.close()

    def create(self, definition: Definition, operation: str) -> dict[str, Any]:
        """A new DRAFT; `there` in the answer where the same content was there before."""
        return self._ask("POST", "/v1/campaigns", operation, json=to_plain(definition))

    def change(
        self, campaign_id: str, action: str, operation: str, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """publish, pause, resume, restock {"round", "add"} or close."""
        path = f"/v1/campaigns/{campaign_id}/{action}"
        return self._ask("POST", path, operation, json=dict(body or {}))

    def give_back(self, grab_id: str, operation: str) -> dict[str, Any]:
        """An unused coupon back into the stock of its round. Raises Refused."""
        return self._ask("POST", f"/v1/grabs/{grab_id}/return", operation, json={})

    def make_token(self, name: str, role: str, valid_s: int, operation: str) -> dict[str, Any]:
        """A staff token; the answer is the only one that shows it. Raises Refused, as do all."""
        body = {"name": name, "role": role, "valid_s": valid_s}
        return self._ask("POST", "/v1/tokens", operation, json=body)

    def tokens(self) -> list[dict[str, Any]]:
        """Tokens, links and sessions, the newest first."""
        found: list[dict[str, Any]] = self._ask("GET", "/v1/tokens")["tokens"]
        return found

    def revoke_token(self, id_: str, operation: str) -> dict[str, Any]:
        """From its next request on."""
        return self._ask("POST", f"/v1/tokens/{id_}/revoke", operation, json={})

    def staff_log(self, limit: int, name: str) -> list[dict[str, Any]]:
        """Who did what, the newest first."""
        params = {"limit": str(limit)} | ({"name": name} if name else {})
        found: list[dict[str, Any]] = self._ask("GET", "/v1/log", params=params)["entries"]
        return found

    def sign_in(self, operation: str) -> dict[str, Any]:
        """A link that signs in once; `url` is made here where the centre does not know its own."""
        link = self._ask("POST", "/v1/sign-ins", operation, json={})
        return link | {"url": link["url"] or self._url.rstrip("/") + link["path"]}

    def view_link(self, valid_s: int, operation: str) -> dict[str, Any]:
        """A read-only link to the console; its `url` likewise."""
        link = self._ask("POST", "/v1/view-links", operation, json={"valid_s": valid_s})
        return link | {"url": link["url"] or self._url.rstrip("/") + link["path"]}

    def load_segment(self, campaign_id: str, users: bytes, operation: str) -> dict[str, Any]:
        """The users that a campaign is for, one id a line. Raises Refused."""
        path = f"/v1/campaigns/{campaign_id}/segment"
        return self._ask("PUT", path, operation, content=users, timeout=LIST_S_MAX)

    def segment(self, campaign_id: str) -> dict[str, Any]:
        """How many they are. Raises Refused."""
        return self._ask("GET", f"/v1/campaigns/{campaign_id}/segment")

    def block(self, body: Mapping[str, Any], operation: str) -> dict[str, Any]:
        """Block {"kind", "subject", "why", "by", "until"}. Raises Refused."""
        return self._ask("POST", "/v1/blocks", operation, json=dict(body))

    def unblock(self, kind: str, subject: str, operation: str) -> dict[str, Any]:
        """Take an entry off the blocklist. Raises Refused."""
        body = {"kind": kind, "subject": subject}
        return self._ask("POST", "/v1/blocks/remove", operation, json=body)

    def blocks(self) -> Iterator[dict[str, Any]]:
        """Everything that is blocked now, by kind and subject."""
        following: str | None = ""
        while following is not None:
            page = self._ask("GET", "/v1/blocks", params={"after": following})
            yield from page["blocks"]
            following = page["next"]

    def show(self, campaign_id: str) -> dict[str, Any]:
        """One campaign, ledger and Redis. Raises Refused where there is none."""
        return self._ask("GET", f"/v1/campaigns/{campaign_id}")

    def all(self, after: str = "") -> Iterator[dict[str, Any]]:
        """Every campaign whose id comes after `after`, by id."""
        following: str | None = after
        while following is not None:
            page = self._ask("GET", "/v1/campaigns", params={"after": following})
            yield from page["campaigns"]
            following = page["next"]

    def _ask(self, method: str, path: str, operation: str = "", **more: Any) -> dict[str, Any]:
        headers = {"Idempotency-Key": operation} if operation else {}
        until = time.monotonic() + self._repeat_s_max
        pause = PAUSE_S_MIN
        while True:
            problem: object
            try:
                response = self._http.request(method, path, headers=headers, **more)
            except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
                unreachable("the centre", self._url, error)
            except httpx2.TransportError as error:
                problem = error
            else:
                if response.status_code != 503:
                    return self._body(response)
                problem = self._detail(response)
            if time.monotonic() + pause > until:
                unreachable("the centre", self._url, problem)
            self._sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, PAUSE_S_MAX)

    def _body(self, response: httpx2.Response) -> dict[str, Any]:
        try:
            body = response.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            unreachable("the centre", self._url, f"HTTP {response.status_code}, but not its own")
        if response.is_success:
            return body
        raise Refused(body)

    def _detail(self, response: httpx2.Response) -> str:
        try:
            return str(self._body(response))
        except Refused as refused:
            return str(refused)


def new_operation(prefix: str = "") -> str:
    """An id for one management operation."""
    return prefix + uuid.uuid4().hex


def read_file(path: Path) -> Definition:
    """The definition in a campaign file; exit 2 naming file, line or field."""
    try:
        return parse_toml(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        fail(f"{path}: cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        fail(f"{path}: not UTF-8 at byte {error.start}")
    except DefinitionInvalid as error:
        fail(str(error))


def create(centre: Centre, definition: Definition, operation: str, source: str) -> dict[str, Any]:
    """Create, or find the same content; exit 2 with the difference where it is another."""
    try:
        return centre.create(definition, operation)
    except Refused as refused:
        if refused.code != "CAMPAIGN_EXISTS":
            fail(f"{source}: {refused}")
        fields = "; ".join(
            f"{d['field']} is {_shown(d['there'])}, here {_shown(d['given'])}"
            for d in refused.problem.get("differences", [])
        )
        fail(f"{source}: campaign {definition.id} exists with other content: {fields}")


def ensure_file(centre_url: str, admin_token: str, path: Path) -> str:
    """Create and publish the campaign of a file unless it is there; exit 2 where it differs.

    Returns a line that says what was done. A campaign that is there is left as it is; only where
    an earlier `up` was cut off between creating and publishing, it is published.
    """
    definition = read_file(path)
    with Centre(centre_url, admin_token) as centre:
        found = create(centre, definition, new_operation(_BY_UP), str(path))
        if found["there"]:
            campaign = centre.show(definition.id)
            if campaign["status"] != "DRAFT" or not campaign["operation"].startswith(_BY_UP):
                return f"campaign {definition.id} is there already ({campaign['status']})"
        try:
            centre.change(definition.id, "publish", new_operation(_BY_UP))
        except Refused as refused:
            fail(f"{path}: {refused}")
    return f"campaign {definition.id} published"


def sign_in_link(centre_url: str, admin_token: str) -> str | None:
    """A link for the root's first sign-in; None where the centre has none to give."""
    try:
        with Centre(centre_url, admin_token, repeat_s_max=1.0) as centre:
            return str(centre.sign_in(new_operation(_BY_UP))["url"])
    except (Refused, Failure):
        return None


def ensure_demo(centre_url: str, admin_token: str) -> tuple[str, Demo]:
    """A demo campaign that is not over: the last one, or a new one that opens 30 s from now.

    Returns a line that names it, and what the banner says of it.
    """
    with Centre(centre_url, admin_token) as centre:
        try:
            return _ensure_demo(centre)
        except Refused as refused:
            fail(f"the demo campaign: {refused}")


def _ensure_demo(centre: Centre) -> tuple[str, Demo]:
    number, last = _last_demo(centre)
    draft = last is not None and last["status"] == "DRAFT"  # an `up` was cut off right there
    if last is not None and not draft and not _is_over(last):
        opens_s = from_rfc3339(last["opens_at"]) / 1000
        found = Demo(last["campaign_id"], opens_s, last["quota"])
        return f"campaign {found.campaign_id} goes on until {last['closes_at']}", found
    if not draft:
        number += 1
        centre.create(_demo(number), new_operation(_BY_UP))
    made = Demo(f"demo-{number}", time.time() + DEMO_DELAY_S, DEMO_QUOTA)
    centre.change(made.campaign_id, "publish", new_operation(_BY_UP))
    return f"campaign {made.campaign_id} opens in {DEMO_DELAY_S} s with {DEMO_QUOTA} coupons", made


def _last_demo(centre: Centre) -> tuple[int, dict[str, Any] | None]:
    number, last = 0, None
    for campaign in centre.all(after="demo-"):
        if not campaign["campaign_id"].startswith("demo-"):
            break
        match = _DEMO_ID.fullmatch(campaign["campaign_id"])
        if match and int(match[1]) > number:
            number, last = int(match[1]), campaign
    return number, last


def _is_over(campaign: Mapping[str, Any]) -> bool:
    ended = from_rfc3339(campaign["closes_at"]) <= time.time() * 1000
    return ended or campaign["status"] == "OFFLINE"


def _demo(number: int) -> Definition:
    rule = {"kind": "amount_off", "amount": 3000, "threshold": 20000}
    round_ = {"opens_at": f"+{DEMO_DELAY_S}s", "closes_at": "+1h", "quota": DEMO_QUOTA}
    return parse(
        {"id": f"demo-{number}", "name": "Demo: 30 off 200", "rule": rule, "rounds": [round_]},
        "demo",
    )


def _shown(value: object) -> str:
    return "not set" if value is None else repr(value)


def rebuild(
    centre: Centre,
    campaign_id: str,
    operation: str,
    *,
    within_s: float,
    without_kafka: bool = False,
    say: Callable[[str], None] = lambda _how_far: None,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Rebuild a campaign, and wait for its end; what the centre said last, `applied` or not.

    Asking again with the operation id begins nothing anew. `say` hears how far it is.
    """
    body = {"without_kafka": True} if without_kafka else {}
    until, said = time.monotonic() + within_s, ""
    while True:
        done = centre.change(campaign_id, "rebuild", operation, body)
        if done["applied"] or time.monotonic() > until:
            return done
        if done["trouble"] != said:
            said = done["trouble"]
            say(said)
        sleep(PAUSE_S_MIN)
